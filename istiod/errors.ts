// What stops istiod or one of its parts, as one error with a code.

export type IstiodErrorCode =
  /** Environment variables or the mesh configuration are wrong; the message names all of them. */
  | "CONFIG_INVALID"
  /** The self-signed root cannot be read or kept. */
  | "CA_STATE"
  /** A plugged-in CA has another root than the one in force. */
  | "ROOT_CHANGED"
  | "LISTEN";

export class IstiodError extends Error {
  override readonly name = "IstiodError";
  readonly code: IstiodErrorCode;

  constructor(code: IstiodErrorCode, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

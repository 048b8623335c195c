// Everything that can go wrong with keys, certificates and tokens, as one error with a code.

export type PkiErrorCode =
  | "PEM_INVALID"
  | "CSR_INVALID"
  | "CERTIFICATE_INVALID"
  | "KEY_INVALID"
  | "CHAIN_INVALID"
  | "SIGNER_INVALID"
  /** What a certificate authority answered cannot be used. */
  | "SIGNER_ANSWER"
  | "CA_FILES_INVALID"
  | "JWKS_INVALID";

export class PkiError extends Error {
  override readonly name = "PkiError";
  readonly code: PkiErrorCode;

  constructor(code: PkiErrorCode, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.code = code;
  }
}

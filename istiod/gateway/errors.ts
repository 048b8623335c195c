// What keeps Gateways from being served, as one error with a code.

export type GatewayErrorCode =
  /** Nothing says which image waypoints run from. */
  "NO_IMAGE";

export class GatewayError extends Error {
  override readonly name = "GatewayError";
  readonly code: GatewayErrorCode;

  constructor(code: GatewayErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

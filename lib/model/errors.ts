// Why a resource of the Workload API was refused; the text goes into the NACK.

export type ModelErrorCode =
  /** Not the protobuf message it claims to be. */
  | "MALFORMED"
  | "MISSING_FIELD"
  | "UNKNOWN_ENUM"
  /** A known value that a node proxy must refuse. */
  | "UNSUPPORTED"
  | "BAD_ADDRESS"
  | "BAD_KEY";

export class ModelError extends Error {
  override readonly name = "ModelError";
  readonly code: ModelErrorCode;
  readonly detail: string;

  constructor(code: ModelErrorCode, detail: string, options?: ErrorOptions) {
    super(detail, options);
    this.code = code;
    this.detail = detail;
  }
}

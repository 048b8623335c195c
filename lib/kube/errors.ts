// What can go wrong between a caller and the objects of a cluster.

export type KubeErrorCode =
  /** The object to patch does not exist. */
  | "NOT_FOUND"
  /** Not an object of this kind: the field and the reason are in the message. */
  | "INVALID"
  /** A manifest is no YAML or JSON. */
  | "MALFORMED"
  /** Two files define one object; the first by path counts. */
  | "DUPLICATE"
  /** Other writers held the directory for too long. */
  | "BUSY"
  /** The object has changed since the writer read it. */
  | "CONFLICT"
  /** The directory or a file in it cannot be read or written. */
  | "IO";

export interface KubeErrorDetail {
  readonly file?: string;
  /** 1-based. */
  readonly line?: number;
  /** For example `spec.ports[0].port`. */
  readonly field?: string;
  readonly cause?: unknown;
}

export class KubeError extends Error {
  override readonly name = "KubeError";
  readonly code: KubeErrorCode;
  readonly file: string | null;
  readonly line: number | null;
  readonly field: string | null;

  constructor(code: KubeErrorCode, message: string, detail: KubeErrorDetail = {}) {
    super(message, detail.cause === undefined ? undefined : { cause: detail.cause });
    this.code = code;
    this.file = detail.file ?? null;
    this.line = detail.line ?? null;
    this.field = detail.field ?? null;
  }
}

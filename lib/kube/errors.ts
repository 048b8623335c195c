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
  /** Other writers held the directory for too long; the API server asked to come back later. */
  | "BUSY"
  /** The object has changed since the writer read it. */
  | "CONFLICT"
  /** The object to create is there already. */
  | "ALREADY_EXISTS"
  /** The API server does not know the kind: its CustomResourceDefinition is missing. */
  | "NOT_SERVED"
  /** The API server does not know us: credentials missing, wrong or expired. */
  | "UNAUTHORIZED"
  /** It knows us and refuses: a permission is missing, or admission says no. */
  | "FORBIDDEN"
  /** The version to continue from is no longer kept: list again. */
  | "EXPIRED"
  /** No connection, or an answer that only a later attempt can better (5xx). */
  | "UNAVAILABLE"
  /** No answer in time. */
  | "TIMEOUT"
  /** The kubeconfig or the pod's service account cannot be used. */
  | "CONFIG"
  /** The directory or a file in it cannot be read or written. */
  | "IO";

export interface KubeErrorDetail {
  readonly file?: string;
  /** 1-based. */
  readonly line?: number;
  /** For example `spec.ports[0].port`. */
  readonly field?: string;
  /** `namespace/name` of what cannot be read, if so much is known. */
  readonly object?: string;
  /** What the API server answered, for example 409. */
  readonly status?: number;
  /** API group of what was asked of the API server; `""` is the core. */
  readonly group?: string;
  readonly cause?: unknown;
}

export class KubeError extends Error {
  override readonly name = "KubeError";
  readonly code: KubeErrorCode;
  readonly file: string | null;
  readonly line: number | null;
  readonly field: string | null;
  readonly object: string | null;
  readonly status: number | null;
  readonly group: string | null;

  constructor(code: KubeErrorCode, message: string, detail: KubeErrorDetail = {}) {
    super(message, detail.cause === undefined ? undefined : { cause: detail.cause });
    this.code = code;
    this.file = detail.file ?? null;
    this.line = detail.line ?? null;
    this.field = detail.field ?? null;
    this.object = detail.object ?? null;
    this.status = detail.status ?? null;
    this.group = detail.group ?? null;
  }
}

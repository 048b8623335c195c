// A gRPC call that failed, as one error with the status of the wire.
import { status as Status, type ServiceError } from "@grpc/grpc-js";

/** `UNAVAILABLE`, `UNAUTHENTICATED`, …: the names of the gRPC status codes. */
export type StatusName = keyof typeof Status;

export class GrpcError extends Error {
  override readonly name = "GrpcError";
  readonly code: StatusName;
  /** The status text as the server sent it. For people: never branch on it. */
  readonly details: string;

  constructor(code: StatusName, details: string, options?: { readonly cause?: unknown }) {
    super(`${code}: ${details}`, options);
    this.code = code;
    this.details = details;
  }
}

const NAMES = new Map<number, StatusName>(
  Object.entries(Status).flatMap(([key, value]) =>
    typeof value === "number" ? [[value, key as StatusName] as const] : [],
  ),
);

function statusName(code: number): StatusName {
  return NAMES.get(code) ?? "UNKNOWN";
}

/** What grpc-js hands to a callback or an `error` listener, as ours. */
export function grpcError(error: unknown): GrpcError {
  if (error instanceof GrpcError) return error;
  const { code, details } = (error ?? {}) as Partial<ServiceError>;
  const text = details ?? (error instanceof Error ? error.message : String(error));
  return new GrpcError(typeof code === "number" ? statusName(code) : "UNKNOWN", text, {
    cause: error,
  });
}

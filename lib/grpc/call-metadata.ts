// The headers every call to the control plane carries: the token, the cluster, and extra ones.
import { Metadata } from "@grpc/grpc-js";
import { GrpcError } from "./errors.ts";

export interface CallIdentity {
  /** Read for every call; `null` sends neither token nor cluster. */
  readonly token: () => Promise<string | null>;
  readonly clusterId: string;
  /** Extra headers by lower-case name. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** @throws {GrpcError} `UNAUTHENTICATED` for an empty token or one that cannot be a header */
export async function callMetadata(identity: CallIdentity): Promise<Metadata> {
  const metadata = new Metadata();
  const token = await identity.token();
  if (token !== null) {
    if (token === "") throw new GrpcError("UNAUTHENTICATED", "The token is empty");
    if (/[^\x20-\x7e]/.test(token))
      throw new GrpcError(
        "UNAUTHENTICATED",
        "The token holds a character that no header may (a newline at its end?)",
      );
    metadata.set("authorization", `Bearer ${token}`);
    metadata.set("clusterid", identity.clusterId);
  }
  for (const [name, value] of Object.entries(identity.headers ?? {})) metadata.set(name, value);
  return metadata;
}

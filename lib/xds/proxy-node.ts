// What a proxy says of itself when it subscribes.
import type { ConfigReader } from "../base/config-reader.ts";

export interface ProxyIdentity {
  readonly pod: { readonly name: string; readonly namespace: string; readonly ip: string };
  readonly nodeName: string;
  readonly clusterId: string;
  /** ISTIO_META_ prefixes stripped; wins over what is derived. */
  readonly nodeMetadata: ReadonlyMap<string, unknown>;
}

/** Id and metadata of a proxy's xDS node, as istiod expects them. */
export function proxyNode(
  type: "ztunnel" | "waypoint",
  config: ProxyIdentity,
): {
  readonly id: string;
  readonly metadata: Readonly<Record<string, unknown>>;
} {
  const { pod } = config;
  return {
    id: `${type}~${pod.ip}~${pod.name}.${pod.namespace}~${pod.namespace}.svc.cluster.local`,
    metadata: {
      NAME: pod.name,
      NAMESPACE: pod.namespace,
      INSTANCE_IPS: pod.ip,
      NODE_NAME: config.nodeName,
      CLUSTER_ID: config.clusterId,
      ...Object.fromEntries(config.nodeMetadata),
    },
  };
}

/** proxyMetadata, then ISTIO_META_*, then ISTIO_METAJSON_*; later entries win. */
export function readNodeMetadata(
  r: ConfigReader,
  proxyMetadata: Iterable<readonly [string, string]>,
): Map<string, unknown> {
  const metadata = new Map<string, unknown>();
  for (const [key, value] of proxyMetadata) metadata.set(key.replace(/^ISTIO_META_/, ""), value);
  for (const [key, value] of r.withPrefix("ISTIO_META_")) metadata.set(key, value);
  for (const [key, value] of r.withPrefix("ISTIO_METAJSON_"))
    try {
      metadata.set(key, JSON.parse(value));
    } catch {
      r.problem(`ISTIO_METAJSON_${key}: expected JSON`);
    }
  return metadata;
}

/** Null when the key has no text. */
export function textOf(metadata: ReadonlyMap<string, unknown>, key: string): string | null {
  const value = metadata.get(key);
  return typeof value === "string" && value !== "" ? value : null;
}

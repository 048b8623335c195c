// What both connections to the control plane share: trust anchors, token and headers, read when used.
import { readFile } from "node:fs/promises";
import type { Config, ControlPlaneEndpoint, TokenSource, TrustSource } from "../config.ts";

/** PEM text; null means the roots of the operating system. @throws when the file cannot be read */
export async function readTrust(source: TrustSource): Promise<Uint8Array | null> {
  switch (source.kind) {
    case "file":
      return readFile(source.value);
    case "pem":
      return Buffer.from(source.value);
    case "system":
      return null;
    default:
      return source.kind satisfies never;
  }
}

/** A newline at the end of the file, which editors leave, is no part of the token. @throws when the file cannot be read */
export async function readToken(source: TokenSource): Promise<string | null> {
  switch (source.kind) {
    case "file":
      return (await readFile(source.path, "utf8")).replace(/\r?\n$/, "");
    case "literal":
      return source.token.reveal();
    case "none":
      return null;
    default:
      return source satisfies never;
  }
}

export interface ConnectionSettings {
  readonly address: string;
  readonly rootCert: () => Promise<Uint8Array | null>;
  readonly altHostname?: string;
  readonly token: () => Promise<string | null>;
  readonly clusterId: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** The common options of the xDS and CA clients. */
export function connectionSettings(
  endpoint: ControlPlaneEndpoint,
  config: Pick<Config, "token" | "clusterId">,
): ConnectionSettings {
  return {
    address: endpoint.address,
    rootCert: () => readTrust(endpoint.root),
    ...(endpoint.altHostname === null ? {} : { altHostname: endpoint.altHostname }),
    token: () => readToken(config.token),
    clusterId: config.clusterId,
    headers: Object.fromEntries([...endpoint.headers].map(([name, v]) => [name, v.reveal()])),
  };
}

/** Id and metadata of the xDS node, as istiod expects them from a ztunnel. */
export function xdsNode(config: Pick<Config, "pod" | "nodeName" | "clusterId" | "nodeMetadata">): {
  readonly id: string;
  readonly metadata: Readonly<Record<string, unknown>>;
} {
  const { pod } = config;
  return {
    id: `ztunnel~${pod.ip}~${pod.name}.${pod.namespace}~${pod.namespace}.svc.cluster.local`,
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

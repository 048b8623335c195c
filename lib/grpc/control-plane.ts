// What a proxy's connections to the control plane share: trust anchors, token and headers, read when used.
import { readFile } from "node:fs/promises";
import type { Secret } from "../base/config-reader.ts";

export interface TrustSource {
  /** `file` is read again for each connection. */
  readonly kind: "file" | "system" | "pem";
  /** The path or the PEM text; empty for `system`. */
  readonly value: string;
}

export type TokenSource =
  | { readonly kind: "file"; readonly path: string }
  | { readonly kind: "literal"; readonly token: Secret }
  | { readonly kind: "none" };

export interface ControlPlaneEndpoint {
  /** `https://host:port`. */
  readonly address: string;
  readonly root: TrustSource;
  /** Second server name that is accepted. */
  readonly altHostname: string | null;
  readonly headers: ReadonlyMap<string, Secret>;
}

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
  config: { readonly token: TokenSource; readonly clusterId: string },
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

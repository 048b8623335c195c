// `/config_dump`: all this proxy knows, in the shape `istioctl ztunnel-config` reads.
import { dumpTables } from "#lib/model/config-dump.ts";
import type { MeshTables } from "#lib/model/tables.ts";
import type { CertificateView } from "#lib/pki/certificate-entry.ts";
import { dumpCertificates } from "#lib/pki/certificates-dump.ts";
import type { PodConnections } from "../proxy/messages.ts";
import { dumpConfig, type Config } from "../config.ts";
import type { PodView } from "../inpod/pods.ts";

export interface DumpInput {
  readonly config: Config;
  readonly tables: MeshTables;
  readonly certificates: readonly CertificateView[];
  readonly pods: readonly PodView[];
  readonly connections: readonly PodConnections[];
}

export const VERSION = "0.1.0";

export function configDump(input: DumpInput): string {
  const { config, tables, certificates, pods, connections } = input;
  const dump = {
    ...dumpTables(tables),
    certificates: dumpCertificates(certificates),
    config: dumpConfig(config),
    staticConfig: { policies: [], services: [], workloads: [] },
    version: {
      buildProfile: "release",
      buildStatus: "Clean",
      cryptoProvider: `openssl ${process.versions.openssl}`,
      gitRevision: "unknown",
      istioVersion: config.istioVersion,
      // What Istio's readers call the toolchain.
      rustVersion: `node ${process.versions.node}`,
      version: VERSION,
    },
    workloadState: workloadState(pods, connections),
  };
  const sorted = Object.entries(dump).sort(([a], [b]) => (a < b ? -1 : 1));
  return `${JSON.stringify(Object.fromEntries(sorted), null, 2)}\n`;
}

/** Every pod by uid, with the connections its worker has open. */
function workloadState(
  pods: readonly PodView[],
  connections: readonly PodConnections[],
): Record<string, unknown> {
  const byUid = new Map(connections.map((c) => [c.uid, c]));
  const sorted = pods.toSorted((a, b) => (a.uid < b.uid ? -1 : 1));
  return Object.fromEntries(
    sorted.map(({ uid, state, info, error }) => {
      const { inbound = [], outbound = [] } = byUid.get(uid) ?? {};
      const { name, namespace, serviceAccount } = info;
      return [
        uid,
        {
          connections: { inbound, outbound },
          ...(error === null ? {} : { error }),
          info: { name, namespace, serviceAccount },
          state,
        },
      ];
    }),
  );
}

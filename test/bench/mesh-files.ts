// Tables and certificates for a mesh of two pods, as files for `bare-ztunnel.ts`.
import { writeFileSync } from "node:fs";
import { X509Certificate } from "node:crypto";
import { ipToBytes, parseIp } from "#lib/net/ip.ts";
import { testCa, testPair } from "#lib/pki/test-ca.ts";
import { Address, TunnelProtocol, Workload, WorkloadType } from "#lib/wire/gen/workload.gen.ts";
import type { BareConfig } from "./bare-ztunnel.ts";

export interface BenchPod {
  readonly name: string;
  readonly ip: string;
  readonly netns: string;
  readonly node: string;
}

/** Writes one config per pod, named `<dir>/<pod>.json`; every ztunnel knows all pods and `extra` more. */
export async function writeMeshFiles(
  dir: string,
  pods: readonly BenchPod[],
  accessLog: BareConfig["accessLog"],
): Promise<void> {
  const ca = await testCa();
  const addresses = pods.map((p) => ({
    name: `Kubernetes//Pod/bench/${p.name}`,
    base64: Buffer.from(
      Address.encode({
        type: {
          $case: "workload",
          value: {
            ...WORKLOAD,
            uid: `Kubernetes//Pod/bench/${p.name}`,
            name: p.name,
            addresses: [Buffer.from(ipToBytes(parseIp(p.ip)))],
            serviceAccount: p.name,
            node: p.node,
            canonicalName: p.name,
            workloadName: p.name,
          },
        },
      }).finish(),
    ).toString("base64"),
  }));
  for (const p of pods) {
    const identity = `spiffe://cluster.local/ns/bench/sa/${p.name}`;
    const pair = await testPair(ca, [identity]);
    const config: BareConfig = {
      node: p.node,
      pods: [
        { uid: p.name, name: p.name, namespace: "bench", serviceAccount: p.name, netns: p.netns },
      ],
      addresses,
      policies: [],
      certificates: [
        {
          identity,
          leaf: new X509Certificate(pair.certChainPem).raw.toString("base64"),
          key: pemBody(pair.privateKeyPem),
          root: new X509Certificate(ca.rootPem).raw.toString("base64"),
        },
      ],
      accessLog,
    };
    writeFileSync(`${dir}/${p.name}.json`, JSON.stringify(config));
  }
}

const WORKLOAD: Workload = {
  ...Workload.create({}),
  namespace: "bench",
  tunnelProtocol: TunnelProtocol.HBONE,
  canonicalRevision: "v1",
  workloadType: WorkloadType.POD,
  clusterId: "Kubernetes",
};

function pemBody(pem: string): string {
  return pem.replace(/-----[^-]+-----/g, "").replace(/\s/g, "");
}

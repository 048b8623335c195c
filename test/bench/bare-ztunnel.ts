// The data-plane worker alone, with fixed tables and certificates: what the benches measure, without
// a control plane beside it. Argument: a JSON file of type BareConfig. Prints "ready" when it serves.
import { readFileSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { createEventFd, signalEventFd } from "#lib/sys/eventfd.ts";
import { openNetns } from "#lib/sys/netns.ts";
import { raiseOpenFiles } from "#lib/sys/rlimit.ts";
import type { CertificateMaterial } from "#lib/pki/certificate-material.ts";
import type { FromWorker, PodInfo, ToWorker } from "../../ztunnel/proxy/messages.ts";
import type { WorkerConfig } from "../../ztunnel/proxy/worker-config.ts";

export interface BareConfig {
  readonly node: string;
  readonly pods: readonly (PodInfo & { readonly netns: string })[];
  readonly addresses: readonly { readonly name: string; readonly base64: string }[];
  readonly policies: readonly { readonly name: string; readonly base64: string }[];
  readonly certificates: readonly {
    readonly identity: string;
    readonly leaf: string;
    readonly key: string;
    readonly root: string;
  }[];
  readonly accessLog: "off" | "info" | "debug";
}

const config = JSON.parse(readFileSync(process.argv[2] ?? "", "utf8")) as BareConfig;
raiseOpenFiles();
const wakeFd = createEventFd();
const workerData: WorkerConfig = {
  seed: [1, 2, 3, 4],
  index: 0,
  wakeFd,
  nodeName: config.node,
  network: "",
  packetMark: 1337,
  reusePort: true,
  ipv6Enabled: true,
  origSrc: null,
  localhostAppTunnel: true,
  responseBaggage: true,
  poolMaxStreams: 100,
  poolIdleMs: 300_000,
  keepalive: { idle: 180, interval: 180, count: 9 },
  logFormat: "plain",
  accessLog: config.accessLog,
};
const worker = new Worker(new URL("../../ztunnel/proxy/worker.ts", import.meta.url), {
  workerData,
});
const send = (message: ToWorker): void => {
  worker.postMessage(message);
  signalEventFd(wakeFd);
};
const der = (text: string): Uint8Array => Buffer.from(text, "base64");
let waiting = config.pods.length;
worker.on("message", (message: FromWorker) => {
  if (message.type === "log") process.stdout.write(message.lines);
  if (message.type === "fatal") {
    console.error(message.error);
    process.exit(1);
  }
  if (message.type !== "pod-added") return;
  if (message.error !== null) {
    console.error(message.error);
    process.exit(1);
  }
  if (--waiting === 0) console.log("ready");
});
worker.on("error", (error) => {
  console.error(error);
  process.exit(1);
});
send({
  type: "tables",
  ops: [
    ...config.addresses.map(
      (a) => ({ op: "address", name: a.name, bytes: der(a.base64) }) as const,
    ),
    ...config.policies.map((p) => ({ op: "policy", name: p.name, bytes: der(p.base64) }) as const),
  ],
});
for (const c of config.certificates) {
  const material: CertificateMaterial = {
    identity: c.identity,
    leaf: der(c.leaf),
    chain: [],
    privateKey: der(c.key),
    roots: [der(c.root)],
    notBefore: Date.now() - 60_000,
    notAfter: Date.now() + 86_400_000,
  };
  send({ type: "certificate", material });
}
for (const { netns, ...pod } of config.pods)
  send({ type: "pod-add", pod, netnsFd: openNetns(netns) });

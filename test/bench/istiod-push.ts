// How long one changed pod takes to reach the last of many node proxies, and what the first full answer
// costs. Run by hand: node test/bench/istiod-push.ts [streams] [pods]
import { Client } from "@grpc/grpc-js";
import { channelParts } from "#lib/grpc/channel.ts";
import { GrpcServer } from "#lib/grpc/server.ts";
import { deltaClientMethod, deltaServerMethod } from "#lib/grpc/services.ts";
import { createLogger } from "#lib/obs/log.ts";
import { testCa, testPair } from "#lib/pki/test-ca.ts";
import type { DeltaDiscoveryRequest } from "#lib/wire/gen/discovery.gen.ts";
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from "#lib/xds/type-urls.ts";
import { Authenticator } from "../../istiod/authenticate.ts";
import { Metrics } from "../../istiod/metrics.ts";
import type { DeltaStream } from "../../istiod/push/connection.ts";
import { FakeTables } from "../../istiod/push/fake-tables.ts";
import { MeshSource } from "../../istiod/push/mesh-source.ts";
import { Pusher } from "../../istiod/push/pusher.ts";
import { PushState } from "../../istiod/push/push-state.ts";
import { XdsService } from "../../istiod/push/xds-service.ts";
import { Worker, isMainThread, parentPort, workerData } from "node:worker_threads";

const STREAMS = Number(process.argv[2] ?? 100);
const PODS = Number(process.argv[3] ?? 10_000);
const ROUNDS = 20;

interface ClientData {
  readonly port: number;
  readonly rootPem: string;
  readonly streams: number;
}

/** The clients live in a thread of their own, so that their work does not count as the server's. */
function runClients({ port, rootPem, streams }: ClientData): void {
  let full = 0;
  let changed = 0;
  for (let i = 0; i < streams; i++) {
    const parts = channelParts({
      address: { host: "127.0.0.1", port },
      altHostname: "istiod.istio-system.svc",
      rootCert: Buffer.from(rootPem),
    });
    const client = new Client(parts.target, parts.credentials, parts.options);
    const { path, requestSerialize } = deltaClientMethod;
    const call = client.makeBidiStreamRequest(
      path,
      requestSerialize,
      deltaClientMethod.responseDeserialize,
    );
    const request = (typeUrl: string, responseNonce = "") => ({
      node: {
        id: `ztunnel~10.0.0.1~z-${i}.istio-system~istio-system.svc.cluster.local`,
        cluster: "",
      },
      typeUrl,
      resourceNamesSubscribe: [],
      resourceNamesUnsubscribe: [],
      initialResourceVersions: new Map<string, string>(),
      responseNonce,
    });
    call.write(request(ADDRESS_TYPE));
    call.write(request(AUTHORIZATION_TYPE));
    call.on("data", (response: { typeUrl: string; nonce: string; resources: unknown[] }) => {
      call.write(request(response.typeUrl, response.nonce));
      if (response.typeUrl !== ADDRESS_TYPE) return;
      if (response.resources.length > 1) {
        if (++full === streams) parentPort?.postMessage("full");
      } else if (++changed === streams) {
        changed = 0;
        parentPort?.postMessage("changed");
      }
    });
  }
}

async function main(): Promise<void> {
  const tables = new FakeTables();
  for (let i = 0; i < PODS; i++)
    tables.workload(
      `Kubernetes//Pod/ns-${i % 50}/workload-${i}-7d9f8c6b5-abcde`,
      [`ns-${i % 50}/p`],
      [`ns-${i % 50}/svc-${i % 500}.ns-${i % 50}.svc.cluster.local`],
    );
  const ca = await testCa();
  const server = new GrpcServer(await testPair(ca, ["istiod.istio-system.svc"]));
  const log = createLogger({ scope: "bench", level: "warn", format: "plain" });
  const metrics = new Metrics("bench");
  const state = new PushState(
    new MeshSource({ tables, clusterId: "Kubernetes", podsOnNode: () => [] }),
  );
  const caller = {
    namespace: "istio-system",
    serviceAccount: "ztunnel",
    podName: null,
    podUid: null,
  };
  const authenticator = new Authenticator({
    tokens: { verify: async () => caller },
    clusterId: "Kubernetes",
    log,
  });
  // The bench measures pushes: every caller is the node proxy.
  authenticator.authenticate = async () => ({ ...caller, clusterId: "Kubernetes" });
  const service = new XdsService({ authenticator, state, metrics, log, version: "bench" });
  const now = (): number => performance.now();
  const pusher = new Pusher({ tables, state, connections: service.connections, metrics, log, now });
  server.handleStream<DeltaDiscoveryRequest, Buffer>(deltaServerMethod, (stream: DeltaStream) =>
    service.handle(stream),
  );
  const port = await server.listen("127.0.0.1:0");

  const cpuStart = process.threadCpuUsage();
  const start = performance.now();
  const workerData: ClientData = { port, rootPem: ca.rootPem, streams: STREAMS };
  const worker = new Worker(new URL(import.meta.url), { workerData });
  const heard = (what: string): Promise<void> =>
    new Promise((resolve) => {
      worker.once("message", (message: string) => {
        if (message !== what) throw new Error(`expected ${what}, got ${message}`);
        resolve();
      });
    });
  await heard("full");
  const cpu = process.threadCpuUsage(cpuStart);
  console.log(
    `first answers: ${STREAMS} streams × ${PODS} pods in ${(performance.now() - start).toFixed(0)} ms, ` +
      `server CPU ${((cpu.user + cpu.system) / 1000).toFixed(0)} ms, rss ${(process.memoryUsage().rss / 2 ** 20).toFixed(0)} MiB`,
  );

  const times: number[] = [];
  const cpuRounds = process.threadCpuUsage();
  for (let round = 0; round < ROUNDS; round++) {
    const done = heard("changed");
    const before = performance.now();
    pusher.publish(
      tables.workload(`Kubernetes//Pod/ns-1/workload-1-7d9f8c6b5-abcde`, [`ns-1/p-${round}`]),
    );
    await done;
    times.push(performance.now() - before);
  }
  const used = process.threadCpuUsage(cpuRounds);
  times.sort((a, b) => a - b);
  console.log(
    `one pod changed → last of ${STREAMS} streams: p50 ${times[ROUNDS >> 1]?.toFixed(1)} ms, ` +
      `max ${times.at(-1)?.toFixed(1)} ms, server CPU ${((used.user + used.system) / 1000 / ROUNDS).toFixed(1)} ms per change (ACKs included)`,
  );
  await worker.terminate();
  server.close();
}

if (isMainThread) await main();
else runClients(workerData as ClientData);

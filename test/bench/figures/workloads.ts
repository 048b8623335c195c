// One ztunnel with nothing but a control plane: its memory idle and with a large mesh, and how long
// it takes to have that mesh in every thread.
import { get } from "node:http";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { LabProcess } from "../../../lab/process.ts";
import { ROOT } from "../../../lab/mesh-parts.ts";
import { MeshServer } from "../mesh-server.ts";
import { memoryOf, MIB } from "../proc-usage.ts";
import type { Progress } from "../progress.ts";
import type { Results } from "../results.ts";
import { scratchDir } from "../scratch-dir.ts";

const SIZES = [10_000, 100_000];
/** A quiet ztunnel gives memory back within four seconds; a busy machine takes longer. */
const SETTLE_MS = 8_000;
const ADMIN = 15_000;
const INGEST_MS = 60_000;

export async function measureWorkloads(
  rounds: number,
  results: Results,
  progress: Progress,
): Promise<void> {
  await using server = await MeshServer.start();
  for (let round = 0; round < rounds; round++)
    for (const size of SIZES) {
      progress.step(`${size} workloads, round ${round + 1} of ${rounds}`);
      await measureOne(server, size, results);
    }
}

async function measureOne(server: MeshServer, size: number, results: Results): Promise<void> {
  const dir = await scratchDir();
  const rootFile = join(dir, "root.pem");
  writeFileSync(rootFile, server.rootPem);
  await using undo = new AsyncDisposableStack();
  undo.defer(() => rmSync(dir, { recursive: true, force: true }));
  const ztunnel = undo.use(
    await LabProcess.start([process.execPath, join(ROOT, "ztunnel/main.ts")], {
      name: "ztunnel",
      env: {
        NODE_NAME: "node-0",
        XDS_ADDRESS: server.address,
        CA_ADDRESS: server.address,
        XDS_ROOT_CA: rootFile,
        CA_ROOT_CA: rootFile,
        INPOD_UDS: join(dir, "ztunnel.sock"),
        POD_NAME: "ztunnel-bench",
        POD_NAMESPACE: "istio-system",
        ZTUNNEL_WORKER_THREADS: "2",
      },
    }),
  );
  const stream = await server.nextStream(INGEST_MS);
  await sleep(SETTLE_MS);
  const idle = memoryOf(ztunnel.pid);
  results.add("idle ztunnel: private memory", "", "MiB", idle.private / MIB);
  results.add("idle ztunnel: RSS", "", "MiB", idle.rss / MIB);
  const started = performance.now();
  await stream.push(size, INGEST_MS);
  results.add(`${size} workloads: until acknowledged`, "", "s", seconds(started));
  await tables();
  results.add(`${size} workloads: time to ingest`, "", "s", seconds(started));
  results.add(
    `${size} workloads: private memory at once`,
    "",
    "MiB",
    memoryOf(ztunnel.pid).private / MIB,
  );
  await sleep(SETTLE_MS);
  const full = memoryOf(ztunnel.pid);
  results.add(`${size} workloads: private memory`, "", "MiB", full.private / MIB);
  results.add(`${size} workloads: RSS`, "", "MiB", full.rss / MIB);
  const more = (full.private - idle.private) / MIB;
  results.add(`${size} workloads: private memory more`, "", "MiB", more);
}

const seconds = (since: number): number => (performance.now() - since) / 1_000;

/** An answer that every worker gives only after the tables sent to it before. */
function tables(): Promise<void> {
  return new Promise((resolve, reject) => {
    get(
      { host: "127.0.0.1", port: ADMIN, path: "/ambit/tunnels", timeout: INGEST_MS },
      (response) => {
        response.resume().once("end", resolve);
      },
    ).once("error", reject);
  });
}

// istiod on a real API server with simulated pods: time to ready, memory, complete answers to one and to many
// node proxies, and a changed pod's way to the first and the last of them.
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { bundleInto } from "../../../../image/bundle.ts";
import { ApiRequester } from "../../../kube/api-request.ts";
import { ControlPlane } from "../../../kube/control-plane.ts";
import { TempDir } from "../../../kube/temp-dir.ts";
import { cpuSeconds, memoryOf } from "../../proc-usage.ts";
import type { Progress } from "../../progress.ts";
import type { Results } from "../../results.ts";
import { addIstioFigures, OURS } from "../bars.ts";
import { IstiodProcess } from "../istiod-process.ts";
import { ProxyStreams } from "../proxy-streams.ts";
import { SimulatedPods } from "../simulated-pods.ts";

const SYSTEM = "istio-system";
const SERVICES = 100;
const STREAMS = 100;
const CHANGES = 20;
/** What garbage is collected by then was none of the state. */
const SETTLE_MS = 3_000;
const MB = 1e6;
const FLAGS = [
  // nobody makes the accounts of pods
  "--disable-admission-plugins=ServiceAccount",
  // the sandbox has no route from which the server could guess one
  "--advertise-address=127.0.0.1",
];

interface Scene {
  readonly plane: ControlPlane;
  readonly pods: SimulatedPods;
  /** Of a node proxy. */
  readonly token: string;
  /** Holds the bundle of istiod. */
  readonly dir: string;
}

export async function measureIstiod(
  pods: number,
  rounds: number,
  results: Results,
  progress: Progress,
): Promise<void> {
  await using undo = new AsyncDisposableStack();
  const dir = undo.use(TempDir.create("ambit-bench-istiod")).path;
  bundleInto(join(dir, "istiod"), { main: "istiod/main.ts" });
  const plane = undo.use(
    await ControlPlane.start({ crds: ["gateway-api", "istio"], flags: FLAGS }),
  );
  const account = { namespace: SYSTEM, name: "ztunnel", audiences: ["istio-ca"] };
  const token = await plane.serviceAccountToken(account);
  const api = undo.use(
    new ApiRequester(plane.url, await readFile(plane.caFile, "utf8"), plane.token),
  );
  const { etcdUrl } = plane;
  const simulated = new SimulatedPods(api, { pods, services: SERVICES, etcdUrl });
  progress.step(`${pods} pods with status`);
  await simulated.create();
  addIstioFigures(results, pods);
  for (let round = 0; round < rounds; round++) {
    progress.step(`istiod with ${pods} pods, round ${round + 1} of ${rounds}`);
    await measureRound({ plane, pods: simulated, token, dir }, round, results);
  }
}

async function measureRound(scene: Scene, round: number, results: Results): Promise<void> {
  const { plane, pods, token, dir } = scene;
  await using undo = new AsyncDisposableStack();
  const add = (figure: string, unit: string, value: number): void =>
    results.add(`istiod, ${pods.count} pods: ${figure}`, OURS, unit, value);
  const startedMs = performance.now();
  const istiod = undo.use(
    await IstiodProcess.start(join(dir, "istiod/main.mjs"), plane.kubeconfig, `istiod-${round}`),
  );
  await istiod.untilReady();
  add("time to ready", "s", (performance.now() - startedMs) / 1_000);
  add("CPU until ready", "s", cpuSeconds(istiod.pid));
  await sleep(SETTLE_MS);
  add("private memory", "MB", memoryOf(istiod.pid).private / MB);

  const rootFile = join(dir, "root.pem");
  await writeFile(rootFile, await caCertificate(plane));
  for (const count of [1, STREAMS]) {
    const cpuBefore = cpuSeconds(istiod.pid);
    const bytesBefore = await istiod.bytesSent();
    await using streams = await ProxyStreams.open({
      port: istiod.port,
      hostname: `istiod.${SYSTEM}.svc`,
      rootFile,
      token,
      streams: count,
      resources: pods.resources,
    });
    add(`complete answer to ${count}`, "s", streams.completeMs / 1_000);
    add(`CPU of complete answers to ${count}`, "s", cpuSeconds(istiod.pid) - cpuBefore);
    if (count === 1)
      add("bytes of a complete answer", "MB", ((await istiod.bytesSent()) - bytesBefore) / MB);
    await sleep(SETTLE_MS);
    if (count > 1)
      add(`private memory with ${count} streams`, "MB", memoryOf(istiod.pid).private / MB);
    await measureChanges(istiod, pods, streams, { round, count, add });
  }
}

async function measureChanges(
  istiod: IstiodProcess,
  pods: SimulatedPods,
  streams: ProxyStreams,
  of: {
    readonly round: number;
    readonly count: number;
    readonly add: (figure: string, unit: string, value: number) => void;
  },
): Promise<void> {
  const { round, count, add } = of;
  const cpuBefore = cpuSeconds(istiod.pid);
  const bytesBefore = await istiod.bytesSent();
  for (let i = 0; i < CHANGES; i++) {
    const answer = streams.change();
    const writtenMs = performance.timeOrigin + performance.now();
    await pods.change(77 + i, `r${round}-${count}-${i}`);
    const { firstAt, at } = await answer;
    if (count > 1) add(`changed pod to the first of ${count}`, "ms", firstAt - writtenMs);
    add(`changed pod to the last of ${count}`, "ms", at - writtenMs);
  }
  const cpuMs = (cpuSeconds(istiod.pid) - cpuBefore) * 1_000;
  add(`CPU for each changed pod, ${count} streams`, "ms", cpuMs / CHANGES);
  const bytes = (await istiod.bytesSent()) - bytesBefore;
  add(`bytes for each changed pod and stream, ${count} streams`, "B", bytes / CHANGES / count);
}

async function caCertificate(plane: ControlPlane): Promise<Buffer> {
  const path = "jsonpath={.data.ca-cert\\.pem}";
  const args = ["get", "secret", "istio-ca-secret", "-n", SYSTEM, "-o", path];
  const { stdout } = await plane.kubectl(args, { allowFailure: false });
  return Buffer.from(stdout, "base64");
}

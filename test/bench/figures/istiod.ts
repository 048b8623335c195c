// istiod with ten thousand pods from manifests: time to ready, memory, a complete answer to a hundred node
// proxies, and a changed pod's way to the last of them.
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { get } from "node:http";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { ISTIOD_HOST, ROOT, SYSTEM_NAMESPACE } from "../../../lab/mesh-parts.ts";
import { LabProcess } from "../../../lab/process.ts";
import { TOKEN_AUDIENCE, TOKEN_ISSUER, TokenIssuer } from "../../../lab/tokens.ts";
import { cpuSeconds, memoryOf, MIB } from "../proc-usage.ts";
import type { Progress } from "../progress.ts";
import type { Results } from "../results.ts";
import { scratchDir } from "../scratch-dir.ts";
import type { StreamsData, StreamsSaid } from "../xds-streams.ts";

const PODS = 10_000;
const NODES = 100;
const CHANGES = 10;
const READY_MS = 60_000;
const ANSWER_MS = 60_000;
const MONITORING = 15_014;

export async function measureIstiod(
  rounds: number,
  results: Results,
  progress: Progress,
): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    progress.step(`istiod, round ${round + 1} of ${rounds}`);
    await measureOne(results);
  }
}

async function measureOne(results: Results): Promise<void> {
  const dir = await scratchDir();
  await using undo = new AsyncDisposableStack();
  undo.defer(() => rm(dir, { recursive: true, force: true }));
  const manifests = join(dir, "manifests");
  writeManifests(manifests);
  const jwksFile = join(dir, "jwks.json");
  const rootFile = join(dir, "root.pem");
  const issuer = await TokenIssuer.create(jwksFile);
  const add = (figure: string, unit: string, value: number): void =>
    results.add(`istiod, ${PODS} pods: ${figure}`, "", unit, value);

  const started = performance.now();
  const istiod = undo.use(
    await LabProcess.start([process.execPath, join(ROOT, "istiod/main.ts")], {
      name: "istiod",
      env: {
        MANIFEST_DIR: manifests,
        ISTIOD_ADDR: "127.0.0.1:15012",
        MONITORING_ADDR: `127.0.0.1:${MONITORING}`,
        JWKS_FILE: jwksFile,
        TOKEN_AUDIENCES: TOKEN_AUDIENCE,
        TOKEN_ISSUER,
        CA_STATE_DIR: join(dir, "ca"),
        ROOT_CERT_FILE: rootFile,
        POD_NAMESPACE: SYSTEM_NAMESPACE,
        LOG_LEVEL: "warn",
      },
    }),
  );
  await ready(istiod);
  add("time to ready", "s", (performance.now() - started) / 1_000);
  add("CPU until ready", "s", cpuSeconds(istiod.pid));
  await sleep(2_000);
  add("private memory", "MiB", memoryOf(istiod.pid).private / MIB);

  const token = await issuer.issue({ namespace: SYSTEM_NAMESPACE, serviceAccount: "ztunnel" });
  const data: StreamsData = {
    port: 15_012,
    hostname: ISTIOD_HOST,
    rootFile,
    token,
    streams: NODES,
    resources: PODS,
  };
  const cpuBefore = cpuSeconds(istiod.pid);
  const asked = performance.now();
  const streams = new Worker(new URL("../xds-streams.ts", import.meta.url), { workerData: data });
  undo.defer(async () => void (await streams.terminate()));
  await said(streams, "complete");
  add(`complete answers to ${NODES} streams`, "s", (performance.now() - asked) / 1_000);
  add(`CPU of complete answers to ${NODES} streams`, "s", cpuSeconds(istiod.pid) - cpuBefore);
  await sleep(2_000);
  add(`private memory with ${NODES} streams`, "MiB", memoryOf(istiod.pid).private / MIB);

  const cpuChanges = cpuSeconds(istiod.pid);
  for (let i = 0; i < CHANGES; i++) {
    const answer = said(streams, "changed");
    const written = performance.timeOrigin + performance.now();
    writePod(manifests, 77, 200 + i);
    add(`changed pod to the last of ${NODES} streams`, "ms", (await answer) - written);
  }
  add("CPU for each changed pod", "ms", ((cpuSeconds(istiod.pid) - cpuChanges) * 1_000) / CHANGES);
}

/** Resolves with the time of it, ms since the epoch. */
function said(streams: Worker, what: StreamsSaid["what"]): Promise<number> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error(`istiod: no "${what}" within ${ANSWER_MS} ms`)),
      ANSWER_MS,
    );
    streams.once("error", reject);
    streams.once("message", (message: StreamsSaid) => {
      clearTimeout(timer);
      streams.off("error", reject);
      if (message.what === what) resolve(message.at);
      else reject(new Error(`istiod: expected "${what}", got "${message.what}"`));
    });
  });
}

async function ready(istiod: LabProcess): Promise<void> {
  const deadline = Date.now() + READY_MS;
  while (!(await isReady())) {
    if (!istiod.running || Date.now() > deadline)
      throw new Error(`istiod is not ready:\n${istiod.tail()}`);
    await sleep(10);
  }
}

function isReady(): Promise<boolean> {
  return new Promise((resolve) => {
    get({ host: "127.0.0.1", port: MONITORING, path: "/ready", timeout: 1_000 }, (response) => {
      response.resume();
      resolve(response.statusCode === 200);
    }).once("error", () => resolve(false));
  });
}

/** One file per object, as they are kept in the directory: pods, and a service for every twenty. */
function writeManifests(dir: string): void {
  const namespaces = new Set<string>();
  for (let i = 0; i < PODS; i++) {
    const namespace = namespaceOf(i);
    if (!namespaces.has(namespace)) {
      namespaces.add(namespace);
      for (const kind of ["pods", "services", "endpointslices"])
        mkdirSync(join(dir, kind, namespace), { recursive: true });
    }
    writePod(dir, i, 1);
    if (i % 20 === 0) writeService(dir, i / 20);
  }
  mkdirSync(join(dir, "namespaces/_cluster"), { recursive: true });
  for (const name of namespaces)
    writeFileSync(
      join(dir, "namespaces/_cluster", `${name}.yaml`),
      `apiVersion: v1\nkind: Namespace\nmetadata:\n  name: ${name}\n`,
    );
}

const appOf = (pod: number): number => Math.floor(pod / 20);
const namespaceOf = (pod: number): string => `team-${appOf(pod) % 50}`;
const ipOf = (pod: number): string => `10.${1 + (pod >> 16)}.${(pod >> 8) & 255}.${pod & 255}`;

/** Replaced whole, as every writer of the directory does. @param revision  what a change changes */
function writePod(dir: string, i: number, revision: number): void {
  const app = `app-${appOf(i)}`;
  const namespace = namespaceOf(i);
  const name = `${app}-7d9f8c6b5-${i.toString(36).padStart(5, "x")}`;
  const file = join(dir, "pods", namespace, `${name}.yaml`);
  const text = `apiVersion: v1
kind: Pod
metadata:
  name: ${name}
  namespace: ${namespace}
  uid: 00000000-0000-4000-8000-${String(i).padStart(12, "0")}
  labels:
    app: ${app}
    version: v${revision}
    istio.io/dataplane-mode: ambient
  annotations:
    ambient.istio.io/redirection: enabled
spec:
  serviceAccountName: ${app}
  nodeName: node-${i % NODES}
  containers:
    - name: main
      image: example.com/${app}:1
      ports:
        - name: http
          containerPort: 8080
          protocol: TCP
status:
  phase: Running
  hostIP: 172.16.0.${i % NODES}
  podIP: ${ipOf(i)}
  podIPs:
    - ip: ${ipOf(i)}
  conditions:
    - type: Ready
      status: "True"
`;
  writeFileSync(`${file}.tmp.1`, text);
  renameSync(`${file}.tmp.1`, file);
}

function writeService(dir: string, app: number): void {
  const name = `app-${app}`;
  const namespace = namespaceOf(app * 20);
  writeFileSync(
    join(dir, "services", namespace, `${name}.yaml`),
    `apiVersion: v1
kind: Service
metadata:
  name: ${name}
  namespace: ${namespace}
spec:
  selector:
    app: ${name}
  clusterIP: 10.96.${app >> 8}.${app & 255}
  clusterIPs:
    - 10.96.${app >> 8}.${app & 255}
  ports:
    - name: http
      port: 80
      targetPort: 8080
`,
  );
}

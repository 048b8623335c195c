// A mesh with traffic in it, for tests that take parts of it away: a shop on two nodes, and what it heard meanwhile.
import { setTimeout as sleep } from "node:timers/promises";
import type { Capture } from "../../../lab/capture.ts";
import { crossedBetween } from "../../../lab/pcap.ts";
import { KubeCluster, type KubeClusterOptions } from "../kube-cluster.ts";
import { idlePod, installMesh, service, serviceAccount, workloadPod } from "../mesh.ts";

export const SHOP = "shop";
export const WEB = "web.shop.svc.cluster.local";
/** Never to be read on the link. */
export const MARKER = "nobody-else-may-read-this";
export const CLIENT = { namespace: SHOP, name: "client" } as const;

const STEADY_MS = 60_000;
/** Patient with a slow machine, but not until a resolver asks again (5 s): a lost query is to be seen. */
const ANSWER_MS = 4_500;

/** What `load.ts` prints: sums since its start. */
export interface Load {
  readonly kept: Readonly<Record<"open" | "opened" | "broken" | "answers", number>>;
  readonly fresh: Readonly<Record<"answered" | "failed", number>>;
  readonly errors: Readonly<Record<string, number>>;
}

/**
 * An installed mesh and an enrolled namespace: `web` on node-b, on node-a an idle client and `load`, which holds ten
 * connections to the service and makes five new ones a second.
 */
export async function loadedShop(options: KubeClusterOptions = {}): Promise<KubeCluster> {
  await using undo = new AsyncDisposableStack();
  const cluster = undo.use(
    await KubeCluster.start({ ...options, crds: ["gateway-api"], images: ["ambit", "workload"] }),
  );
  await installMesh(cluster);
  const labels = { "istio.io/dataplane-mode": "ambient" };
  await cluster.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: SHOP, labels } });
  await cluster.apply(
    ...["web", "client", "load", "late"].map((name) => serviceAccount(SHOP, name)),
    ...["web", "late"].map((name) => service(SHOP, name)),
    workloadPod({ name: "web", namespace: SHOP, node: "node-b" }),
    idlePod({ ...CLIENT, node: "node-a" }),
  );
  await cluster.waitFor("condition=Ready", SHOP, "pod/web", "pod/client");
  const flags = [`--host=${WEB}`, "--port=80", `--text=${MARKER}`, `--timeout-ms=${ANSWER_MS}`];
  await cluster.apply(
    workloadPod({
      name: "load",
      namespace: SHOP,
      node: "node-a",
      command: ["node", "/workloads/load.ts", ...flags],
      probes: {},
    }),
  );
  await untilSteady(cluster);
  undo.move();
  return cluster;
}

export async function loadSoFar(cluster: KubeCluster): Promise<Load> {
  const { stdout } = await cluster.api.kubectl(["logs", "-n", SHOP, "load", "--tail=1"]);
  const text = stdout.trim();
  if (text === "") return NOTHING;
  return JSON.parse(text) as Load;
}

const NOTHING: Load = {
  kept: { open: 0, opened: 0, broken: 0, answers: 0 },
  fresh: { answered: 0, failed: 0 },
  errors: {},
};

/** What happened between two looks. */
export function difference(before: Load, after: Load): Load {
  const minus = <K extends string>(
    a: Readonly<Record<K, number>>,
    b: Readonly<Partial<Record<K, number>>>,
  ): Record<K, number> => {
    const pairs = (Object.entries(a) as [K, number][]).map(([k, n]) => [k, n - (b[k] ?? 0)]);
    return Object.fromEntries(pairs) as Record<K, number>;
  };
  const errors = Object.entries(minus(after.errors, before.errors)).filter(([, n]) => n > 0);
  return {
    kept: { ...minus(after.kept, before.kept), open: after.kept.open },
    fresh: minus(after.fresh, before.fresh),
    errors: Object.fromEntries(errors),
  };
}

/** Resolves once all connections are open and for two seconds nothing failed. */
export async function untilSteady(cluster: KubeCluster): Promise<void> {
  let last = await loadSoFar(cluster);
  await cluster.until(
    "traffic without a failure",
    async () => {
      await sleep(2_500);
      const now = await loadSoFar(cluster);
      const { kept, fresh } = difference(last, now);
      last = now;
      return kept.open === 10 && kept.broken === 0 && fresh.failed === 0 && fresh.answered > 0;
    },
    STEADY_MS,
  );
}

export function tell(what: string, { kept, fresh, errors }: Load): void {
  const reasons = Object.entries(errors).map(([reason, n]) => `${n} ${reason}`);
  console.log(
    `${what}: ${kept.broken} of 10 long-lived connections broken, ` +
      `${fresh.failed} of ${fresh.failed + fresh.answered} new ones failed` +
      (reasons.length > 0 ? ` (${reasons.join(", ")})` : ""),
  );
}

/** `src:port → dst:port`, of everything between pods of the shop that was not HBONE, and of the marker anywhere. */
export async function inClear(cluster: KubeCluster, capture: Capture): Promise<string[]> {
  const args = ["get", "pods", "-n", SHOP, "-o", "jsonpath={.items[*].status.podIPs[*].ip}"];
  const ips = new Set((await cluster.kubectl(args)).stdout.split(" "));
  const flows = await capture.flows();
  const { clear } = crossedBetween(flows, ips);
  return flows
    .filter((f) => clear.includes(f) || (f.protocol === "tcp" && f.bytes.includes(MARKER)))
    .map((f) => `${f.src}:${f.srcPort} → ${f.dst}:${f.dstPort} ${f.bytes.subarray(0, 40)}`);
}

// From the creation of a policy until it is enforced on both nodes: new connections are refused, open ones closed; and
// from its deletion until both let connections in again.
import { setTimeout as sleep } from "node:timers/promises";
import { RESOURCES } from "#lib/kube/objects.ts";
import type { Progress } from "../../progress.ts";
import type { Results } from "../../results.ts";
import { NAMESPACES, PORT, WRITER, type KubeStage } from "../stage.ts";
import { Prober } from "../prober.ts";

const NAMESPACE = NAMESPACES.ambit;
const POLICY = "nobody";
/** A connection over which nothing is said this long after the last change of mind is the last. */
const SETTLE_MS = 300;

export async function measurePolicy(
  stage: KubeStage,
  changes: number,
  results: Results,
  progress: Progress,
): Promise<void> {
  progress.step("a server and a prober on each node");
  await using owned = new AsyncDisposableStack();
  const probers: Prober[] = [];
  for (const [server, from] of [
    ["node-a", "node-b"],
    ["node-b", "node-a"],
  ] as const) {
    const address = await stage.server(NAMESPACE, `server-on-${server}`, server);
    probers.push(owned.use(await Prober.start(stage, NAMESPACE, from, [address, String(PORT)])));
  }
  const enforced: number[] = [];
  const closed: number[] = [];
  const lifted: number[] = [];
  await Promise.all(probers.map((p) => p.until("let-in", "held")));
  for (let change = 0; change < changes; change++) {
    progress.step(`policy, change ${change + 1} of ${changes}`);
    const appliedMs = Date.now();
    await stage.kube.create(RESOURCES.authorizationPolicies, denial(), WRITER);
    await both(probers, "refused", "closed");
    enforced.push(Math.max(...probers.map((p) => p.access.at)) - appliedMs);
    closed.push(Math.max(...probers.map((p) => p.open.at)) - appliedMs);
    const removedMs = Date.now();
    await stage.kube.delete(RESOURCES.authorizationPolicies, NAMESPACE, POLICY);
    await both(probers, "let-in", "held");
    lifted.push(Math.max(...probers.map((p) => p.access.at)) - removedMs);
  }
  for (const [name, samples] of [
    ["policy applied to new connections refused on both nodes", enforced],
    ["policy applied to open connections closed on both nodes", closed],
    ["policy removed to new connections let in on both nodes", lifted],
  ] as const)
    for (const [title, share] of [
      ["p50", 0.5],
      ["p99", 0.99],
    ] as const)
      results.add(`${name}: ${title}`, "ambit", "ms", percentile(samples, share));
  results.note(`Policy: ${changes} changes, a new connection from each node every 10 ms`);
  for (const node of ["node-a", "node-b"]) await stage.deletePod(NAMESPACE, `server-on-${node}`);
}

async function both(
  probers: readonly Prober[],
  access: "let-in" | "refused",
  open: "held" | "closed",
): Promise<void> {
  await Promise.all(probers.map((p) => p.until(access, open)));
  await sleep(SETTLE_MS);
  await Promise.all(probers.map((p) => p.until(access, open)));
}

function denial() {
  const principals = [`cluster.local/ns/${NAMESPACE}/sa/bench`];
  return {
    apiVersion: "security.istio.io/v1",
    kind: "AuthorizationPolicy",
    metadata: { namespace: NAMESPACE, name: POLICY },
    spec: { action: "DENY", rules: [{ from: [{ source: { principals } }] }] },
  };
}

/** The smallest sample that so many do not exceed. */
function percentile(samples: readonly number[], share: number): number {
  const sorted = samples.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)] ?? NaN;
}

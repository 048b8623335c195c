// A node may come up tainted, so that no pod of the mesh is placed on it before it can be served. The
// agent takes the taint off once its self-test passes.
import type { Clock } from "#lib/base/clock.ts";
import type { Cluster } from "#lib/kube/cluster.ts";
import { KubeError } from "#lib/kube/errors.ts";
import { RESOURCES } from "#lib/kube/objects.ts";
import type { Logger } from "#lib/obs/log.ts";
import { explain } from "./errors.ts";

const FIELD_MANAGER = "ambit-cni";
const LOOK_AGAIN_MS = 1_000;
const RETRY_MS = 5_000;

/**
 * Takes every taint of `key` off the node. Others' taints stay, also those that are added meanwhile: the
 * patch holds the version it was made from.
 * @returns whether there was one
 * @throws {KubeError}
 */
export async function removeTaint(
  cluster: Cluster,
  nodeName: string,
  key: string,
): Promise<boolean> {
  for (;;) {
    const node = await cluster.get(RESOURCES.nodes, null, nodeName);
    if (node === null) throw new KubeError("NOT_FOUND", `The cluster knows no node ${nodeName}`);
    const taints = node.spec?.taints ?? [];
    const others = taints.filter((taint) => taint.key !== key);
    if (others.length === taints.length) return false;
    const patch = {
      metadata: { resourceVersion: node.metadata.resourceVersion },
      spec: { taints: others.length === 0 ? null : others },
    };
    try {
      await cluster.patch(RESOURCES.nodes, null, nodeName, patch, { fieldManager: FIELD_MANAGER });
      return true;
    } catch (error) {
      if (!(error instanceof KubeError && error.code === "CONFLICT")) throw error;
    }
  }
}

/** Waits for a passing self-test, then removes the taint, however long both take. Never rejects. */
export async function removeTaintOnceFit(o: {
  readonly cluster: Cluster;
  readonly nodeName: string;
  readonly key: string;
  /** What keeps pods of the mesh from being served; empty when nothing does. */
  readonly selfTest: () => Promise<readonly string[]>;
  readonly log: Logger;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}): Promise<void> {
  let told = "";
  while (!o.signal.aborted)
    try {
      const faults = await o.selfTest();
      if (faults.length === 0) {
        const wasTainted = await removeTaint(o.cluster, o.nodeName, o.key);
        if (wasTainted) o.log.info({ node: o.nodeName, taint: o.key }, "startup taint removed");
        return;
      }
      const text = faults.join("; ");
      if (text !== told) o.log.info({ faults }, "the startup taint stays");
      told = text;
      await o.clock.sleep(LOOK_AGAIN_MS, o.signal);
    } catch (error) {
      o.log.warn({ taint: o.key, error: explain(error) }, "cannot remove the startup taint");
      await o.clock.sleep(RETRY_MS, o.signal);
    }
}

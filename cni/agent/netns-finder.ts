// Where a pod's namespace may be: the sandbox the plugin told of, else a process of the pod. Nothing is
// believed without proof: the inode must be the recorded one and a pod address must be inside.
import type { Pod } from "#lib/kube/objects.ts";
import type { Ip } from "#lib/net/ip.ts";
import type { NetnsScanner } from "./netns-scan.ts";
import { PodNetns } from "./pod-netns.ts";
import type { SandboxStore } from "./sandbox-store.ts";

export interface NetnsFinder {
  /**
   * The caller owns the result.
   * @param isThorough  also look at every process of the node
   */
  find(pod: Pod, ips: readonly Ip[], isThorough: boolean): Promise<PodNetns | null>;
}

/** @param prefix  put before a runtime's path to see it from here, e.g. `/host` */
export function netnsFinder(
  sandboxes: SandboxStore,
  scanner: NetnsScanner,
  prefix: string,
): NetnsFinder {
  return {
    async find(pod, ips, isThorough) {
      const uid = pod.metadata.uid ?? "";
      const remembered = openSandbox(sandboxes, uid, ips, prefix);
      if (remembered !== null || !isThorough) return remembered;
      return scanner.find(uid, ips);
    },
  };
}

function openSandbox(
  sandboxes: SandboxStore,
  uid: string,
  ips: readonly Ip[],
  prefix: string,
): PodNetns | null {
  const sandbox = sandboxes.get(uid);
  if (sandbox === null) return null;
  let netns: PodNetns;
  try {
    netns = PodNetns.open(`${prefix}${sandbox.netns}`);
  } catch {
    return null; // the sandbox is gone
  }
  if (netns.id === sandbox.netnsId && netns.holdsAny([...ips, ...sandbox.ips])) return netns;
  netns[Symbol.dispose]();
  return null;
}

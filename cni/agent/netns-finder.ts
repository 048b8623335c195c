// Where a pod's namespace may be: the sandbox the plugin told of, else a process of the pod. Nothing is
// believed without proof: the inode must be the recorded one and a pod address must be inside.
import type { Pod } from "#lib/kube/objects.ts";
import type { Ip } from "#lib/net/ip.ts";
import { uidOnNode } from "../enrolment/wish.ts";
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

/** How this process sees the node's files. */
export interface NodePaths {
  /** Put before a runtime's path, e.g. `/host`. */
  readonly hostNetnsPrefix: string;
  /** The host's procfs. */
  readonly hostProc: string;
}

/**
 * Opens a namespace under the path a runtime gave. On most hosts `/var/run` is a link to `/run`, and only one
 * of the two is mounted here; runtimes that pin no file name a process.
 * @throws {SysError} of the first place, when it is at none
 */
export function openRuntimeNetns(path: string, node: NodePaths): PodNetns {
  let first: unknown = null;
  for (const place of placesOf(path, node))
    try {
      return PodNetns.open(place);
    } catch (error) {
      first ??= error;
    }
  throw first;
}

export function placesOf(
  path: string,
  { hostNetnsPrefix, hostProc }: NodePaths,
): readonly string[] {
  const process = /^\/proc\/(\d+\/ns\/net)$/.exec(path)?.[1];
  if (process !== undefined) return [`${hostProc}/${process}`];
  const twin = path.startsWith("/run/")
    ? `/var${path}`
    : path.startsWith("/var/run/")
      ? path.slice("/var".length)
      : null;
  return [path, ...(twin === null ? [] : [twin])].map((p) => `${hostNetnsPrefix}${p}`);
}

export function netnsFinder(
  sandboxes: SandboxStore,
  scanner: NetnsScanner,
  node: NodePaths,
): NetnsFinder {
  return {
    async find(pod, ips, isThorough) {
      const uid = pod.metadata.uid ?? "";
      const remembered = openSandbox(sandboxes, uid, ips, node);
      if (remembered !== null || !isThorough) return remembered;
      return scanner.find(uidOnNode(pod), ips);
    },
  };
}

function openSandbox(
  sandboxes: SandboxStore,
  uid: string,
  ips: readonly Ip[],
  node: NodePaths,
): PodNetns | null {
  const sandbox = sandboxes.get(uid);
  if (sandbox === null) return null;
  let netns: PodNetns;
  try {
    netns = openRuntimeNetns(sandbox.netns, node);
  } catch {
    return null; // the sandbox is gone
  }
  if (netns.id === sandbox.netnsId && netns.holdsAny([...ips, ...sandbox.ips])) return netns;
  netns[Symbol.dispose]();
  return null;
}

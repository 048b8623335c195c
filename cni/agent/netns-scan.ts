// Finds the namespaces of running pods through the host's procfs: a process of the pod, known by its
// cgroup or its mounts, leads to its namespace. For pods that were there before the agent; new ones come with the plugin's event.
import { readdirSync, readFileSync, statSync } from "node:fs";
import { setImmediate as turn } from "node:timers/promises";
import type { Ip } from "#lib/net/ip.ts";
import { parseCgroup, parseStartTime, podUidOfMounts } from "./cgroup.ts";
import { PodNetns } from "./pod-netns.ts";

/** Processes looked at before other work gets its turn. */
const BATCH = 64;

/** Which pods to look for: UID → addresses its namespace must hold one of. */
export type Wanted = ReadonlyMap<string, readonly Ip[]>;

interface Candidate {
  readonly netns: PodNetns;
  readonly startTime: number;
}

/**
 * Looks at every process once. The caller owns the namespaces returned.
 * @param proc  the host's procfs, e.g. `/host/proc`
 */
export async function scanProcesses(proc: string, wanted: Wanted): Promise<Map<string, PodNetns>> {
  const found = new Map<string, Candidate>();
  const host = inodeOf(`${proc}/1/ns/net`);
  const claimed = new Map<string, string>();
  let seen = 0;
  for (const entry of readdirSync(proc)) {
    if (!/^\d+$/.test(entry)) continue;
    if (++seen % BATCH === 0) await turn();
    const candidate = inspect(`${proc}/${entry}`, wanted, host, claimed);
    if (candidate === null) continue;
    const { podUid, netns, startTime } = candidate;
    const old = found.get(podUid);
    // a restarted sandbox may still have processes: the pod's first one owns the namespace
    if (old !== undefined && old.startTime <= startTime) netns[Symbol.dispose]();
    else {
      old?.netns[Symbol.dispose]();
      found.set(podUid, { netns, startTime });
    }
  }
  return new Map([...found].map(([uid, { netns }]) => [uid, netns]));
}

function inspect(
  dir: string,
  wanted: Wanted,
  host: string | null,
  claimed: Map<string, string>,
): ({ readonly podUid: string } & Candidate) | null {
  try {
    const inode = inodeOf(`${dir}/ns/net`);
    if (inode === null || inode === host || claimed.has(inode)) return null;
    const startTime = parseStartTime(readFileSync(`${dir}/stat`, "latin1"));
    const owner = parseCgroup(readFileSync(`${dir}/cgroup`, "latin1"));
    const podUid = owner?.podUid ?? podUidOfMounts(readFileSync(`${dir}/mountinfo`, "latin1"));
    if (podUid === null || startTime === null) return null;
    const ips = wanted.get(podUid);
    if (ips === undefined) return null;
    const netns = PodNetns.open(`${dir}/ns/net`);
    // a process of the pod may be visiting another namespace: the address decides
    if (!netns.holdsAny(ips)) {
      netns[Symbol.dispose]();
      return null;
    }
    claimed.set(inode, podUid);
    return { podUid, netns, startTime };
  } catch {
    return null; // the process has ended, or is not ours to look into
  }
}

function inodeOf(path: string): string | null {
  try {
    const { dev, ino } = statSync(path, { bigint: true });
    return `${dev}:${ino}`;
  } catch {
    return null;
  }
}

/** Gathers the questions of a moment into one scan: a namespace being labelled asks for all its pods. */
export class NetnsScanner {
  readonly #proc: string;
  #next: { wanted: Map<string, readonly Ip[]>; result: Promise<Map<string, PodNetns>> } | null =
    null;
  #running: Promise<unknown> = Promise.resolve();

  constructor(proc: string) {
    this.#proc = proc;
  }

  /** The caller owns the result. */
  async find(uid: string, ips: readonly Ip[]): Promise<PodNetns | null> {
    if (ips.length === 0) return null;
    if (this.#next === null) {
      const wanted = new Map<string, readonly Ip[]>();
      const result = this.#running.then(() => {
        this.#next = null;
        return scanProcesses(this.#proc, wanted);
      });
      this.#running = result.catch(() => undefined);
      this.#next = { wanted, result };
    }
    const { wanted, result } = this.#next;
    wanted.set(uid, ips);
    const found = await result;
    const netns = found.get(uid) ?? null;
    found.delete(uid); // a second question for the same pod gets nothing rather than a shared owner
    return netns;
  }
}

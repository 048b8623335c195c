// Handing a port over to another process that listens on it too (SO_REUSEPORT): what waits in the queue
// of a listener that closes would be reset, unless the kernel is told to move it.
import { readFileSync, writeFileSync } from "node:fs";
import { inNetns, type NetnsFd } from "./netns.ts";

/** Linux 5.14. Per namespace; looked at when a listener closes. */
const SETTING = "/proc/sys/net/ipv4/tcp_migrate_req";

/**
 * Runs `close` while connections in the queues of closing listeners of `ns` move to other listeners of
 * their ports. The namespace's setting is as before afterwards. Best effort: where it may not be
 * changed (an old kernel, a read-only /proc/sys) such connections are reset.
 */
export function closeHandingOver(ns: NetnsFd, close: () => void): void {
  const before = exchange(ns, "1");
  try {
    close();
  } finally {
    if (before !== null && before !== "1") exchange(ns, before);
  }
}

/** Returns the old value; null when it cannot be changed. */
function exchange(ns: NetnsFd, value: string): string | null {
  try {
    return inNetns(ns, () => {
      const before = readFileSync(SETTING, "latin1").trim();
      if (before !== value) writeFileSync(SETTING, value);
      return before;
    });
  } catch {
    return null;
  }
}

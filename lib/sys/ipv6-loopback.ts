// Whether ::1 exists where the calling thread is: some pods and nodes have IPv6 switched off on `lo`.
import { readFileSync } from "node:fs";

/** /proc/sys/net shows the network namespace of the calling thread, so this works inside `inNetns`. */
export function hasIpv6Loopback(): boolean {
  try {
    return readFileSync("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "utf8").trim() !== "1";
  } catch {
    return false; // a kernel without IPv6
  }
}

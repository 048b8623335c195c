// Whose sockets are probes: the user of the node's kubelet, read from the host's procfs.
import { readdirSync, readFileSync } from "node:fs";

/** `kubelet` itself, MicroK8s' `kubelite` when it runs a kubelet, or k3s. `null` when none runs. */
export function findKubeletUid(proc: string): number | null {
  for (const entry of readdirSync(proc)) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const name = readFileSync(`${proc}/${entry}/comm`, "utf8").trim();
      if (name !== "kubelet" && name !== "kubelite" && name !== "k3s" && name !== "k3s-server")
        continue;
      if (
        name === "kubelite" &&
        !readFileSync(`${proc}/${entry}/cmdline`, "utf8").includes("kubelet")
      )
        continue;
      const uid = /^Uid:\s+(\d+)/m.exec(readFileSync(`${proc}/${entry}/status`, "utf8"))?.[1];
      if (uid !== undefined) return Number(uid);
    } catch {
      // the process has ended
    }
  }
  return null;
}

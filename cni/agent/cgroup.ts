// Pod UID and container id out of `/proc/<pid>/cgroup`, in every layout container runtimes write.
// Pure. Lines are `id:controllers:path`; see cni/agent/README.md for samples.

export interface CgroupOwner {
  readonly podUid: string;
  readonly containerId: string;
}

/** `…<punctuation>pod<uid><punctuation>[segments]<container id>`; separators inside the UID vary. */
const POD_PATH =
  /[^A-Za-z0-9]pod([0-9a-f]{8}[^A-Za-z0-9]?[0-9a-f]{4}[^A-Za-z0-9]?[0-9a-f]{4}[^A-Za-z0-9]?[0-9a-f]{4}[^A-Za-z0-9]?[0-9a-f]{12})(?:[^A-Za-z0-9].*)?[^A-Za-z0-9]([A-Za-z0-9]+)$/;

/** `null` when the process is no container of a pod, or the lines contradict each other. */
export function parseCgroup(text: string): CgroupOwner | null {
  let found: CgroupOwner | null = null;
  for (const line of text.split("\n")) {
    const path = line
      .split(":")
      .slice(2)
      .join(":")
      .replace(/\.scope$/, "");
    const [, rawUid, containerId] = POD_PATH.exec(path) ?? [];
    if (rawUid === undefined || containerId === undefined) continue;
    const owner = { podUid: withDashes(rawUid), containerId };
    if (found !== null && (found.podUid !== owner.podUid || found.containerId !== containerId))
      return null;
    found = owner;
  }
  return found;
}

const UID = "[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}";
const KUBELET_FILE = new RegExp(`(?:^|/)pods/(${UID})/(?:etc-hosts|containers/[^/]+/[^/]+)$`);

/**
 * Pod UID out of `/proc/<pid>/mountinfo`, for nodes whose cgroups name no pod (`cgroupsPerQOS: false`, some
 * cri-o layouts): kubelet mounts a file of the pod's own directory over `/etc/hosts` in every container.
 * Field 4 is the mount's root in its file system, proc(5). `null` without one, or when several disagree.
 */
export function podUidOfMounts(text: string): string | null {
  let found: string | null = null;
  for (const line of text.split("\n")) {
    const [, uid] = KUBELET_FILE.exec(line.split(" ", 4)[3] ?? "") ?? [];
    if (uid === undefined) continue;
    if (found !== null && found !== withDashes(uid)) return null;
    found = withDashes(uid);
  }
  return found;
}

/** Start time of a process in clock ticks: field 22 of `/proc/<pid>/stat`; the name before it may hold anything. */
export function parseStartTime(stat: string): number | null {
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const ticks = Number(fields[19]);
  return fields.length > 19 && Number.isFinite(ticks) ? ticks : null;
}

function withDashes(uid: string): string {
  const hex = uid.replaceAll(/[^0-9a-f]/g, "");
  return [8, 12, 16, 20, 32].map((end, i) => hex.slice([0, 8, 12, 16, 20][i], end)).join("-");
}

// A node's view of its processes, as files. The node agent finds a running pod's namespace by scanning
// procfs for the pod's control group; the lab's nodes share one kernel and, without privileges, have no
// control groups to give, so each node gets a directory that answers that scan.
import { mkdir, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";

const KUBELET_PID = 500;
const FIRST_POD_PID = 10_000;

export class HostProc {
  readonly dir: string;
  #nextPid = FIRST_POD_PID;

  private constructor(dir: string) {
    this.dir = dir;
  }

  /** With an init process in the node's namespace and a kubelet running as root. */
  static async create(dir: string, nodeNetnsPath: string): Promise<HostProc> {
    const proc = new HostProc(dir);
    await proc.#write(1, "systemd", "/sbin/init", "0::/init.scope", nodeNetnsPath);
    await proc.#write(
      KUBELET_PID,
      "kubelet",
      "/usr/bin/kubelet",
      "0::/system.slice/kubelet.service",
      nodeNetnsPath,
    );
    return proc;
  }

  /** Adds the pod's pause process. @returns what removes it again */
  async addPod(uid: string, containerId: string, netnsPath: string): Promise<() => Promise<void>> {
    const pid = this.#nextPid++;
    const slice = `kubepods-besteffort-pod${uid.replaceAll("-", "_")}.slice`;
    const cgroup = `0::/kubepods.slice/kubepods-besteffort.slice/${slice}/cri-containerd-${containerId}.scope`;
    await this.#write(pid, "pause", "/pause", cgroup, netnsPath);
    return () => rm(join(this.dir, String(pid)), { recursive: true, force: true });
  }

  /** See proc_pid_stat(5), proc_pid_status(5), cgroups(7). */
  async #write(
    pid: number,
    comm: string,
    command: string,
    cgroup: string,
    netnsPath: string,
  ): Promise<void> {
    const dir = join(this.dir, String(pid));
    await mkdir(join(dir, "ns"), { recursive: true });
    await symlink(netnsPath, join(dir, "ns", "net"));
    // field 22 is the start time; later processes have higher numbers here
    const stat = [
      pid,
      `(${comm})`,
      "S",
      ...Array<number>(18).fill(0),
      pid,
      ...Array<number>(30).fill(0),
    ];
    await Promise.all([
      writeFile(join(dir, "stat"), `${stat.join(" ")}\n`),
      writeFile(join(dir, "comm"), `${comm}\n`),
      writeFile(join(dir, "cmdline"), `${command}\0`),
      writeFile(join(dir, "cgroup"), `${cgroup}\n`),
      writeFile(
        join(dir, "status"),
        `Name:\t${comm}\nPid:\t${pid}\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n`,
      ),
    ]);
  }
}

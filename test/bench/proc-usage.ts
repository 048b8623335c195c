// What a process has used, from procfs: proc_pid_stat(5), proc_pid_smaps(5).
import { readFileSync } from "node:fs";

/** USER_HZ, fixed on Linux. */
const TICKS_PER_SECOND = 100;

/** User and system time of all threads, in seconds. */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" "); // the name may hold spaces
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

export interface Memory {
  readonly rss: number;
  /** Pages no other process shares: what the process costs. */
  readonly private: number;
}

/** In bytes. */
export function memoryOf(pid: number): Memory {
  const rollup = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  const kib = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(rollup)?.[1] ?? 0);
  return {
    rss: kib("Rss") * 1024,
    private: (kib("Private_Clean") + kib("Private_Dirty")) * 1024,
  };
}

export const MIB = 2 ** 20;

// The corner of the machine's cgroups that a test cluster's containers live in. Cgroups are the only thing a
// sandbox leaves behind: they belong to no namespace that ends with it.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { isAlive, processMark } from "./temp-dir.ts";

const ROOT = "/sys/fs/cgroup";
const PREFIX = "ambit-kube-";

/** Of the cluster whose process, outside the sandbox, is this one. */
export function cgroupName(pid = process.pid): string {
  return `${PREFIX}${(processMark(pid) ?? "").replace(" ", "-")}`;
}

/** Needed where the kubelet only looks it up. */
export function makeCgroup(path: string): void {
  for (const hierarchy of hierarchies()) mkdirSync(join(hierarchy, path), { recursive: true });
}

/** Removes those of clusters whose owner is dead, or of `name` alone. Returns what still has processes. */
export function sweepCgroups(name?: string): string[] {
  const left: string[] = [];
  for (const hierarchy of hierarchies())
    for (const child of readdirSync(hierarchy)) {
      if (!child.startsWith(PREFIX)) continue;
      const mark = child.slice(PREFIX.length).replace("-", " ");
      if (name === undefined ? !isAlive(mark) : child === name)
        if (!removeTree(join(hierarchy, child))) left.push(join(hierarchy, child));
    }
  return left;
}

/** One of cgroup v2, or one per controller of v1. */
function hierarchies(): string[] {
  if (existsSync(join(ROOT, "cgroup.controllers"))) return [ROOT];
  if (!existsSync(ROOT)) return [];
  return readdirSync(ROOT)
    .map((name) => join(ROOT, name))
    .filter((path) => existsSync(join(path, "cgroup.procs")) && isDistinct(path));
}

/** `cpu` and `cpuacct` may be links to one. */
function isDistinct(path: string): boolean {
  try {
    return statSync(path).isDirectory() && readFileSync(join(path, "cgroup.procs")) !== null;
  } catch {
    return false;
  }
}

/** False while processes are inside. */
function removeTree(path: string): boolean {
  try {
    for (const entry of readdirSync(path, { withFileTypes: true }))
      if (entry.isDirectory()) removeTree(join(path, entry.name));
    rmdirSync(path);
  } catch {
    // busy, or just removed by somebody else
  }
  return !existsSync(path);
}

// What every part says of its own process when scraped.
import { readdirSync, readFileSync } from "node:fs";
import { bare, gauge, type Family } from "./metric-family.ts";

/** @param component  Istio's name for this kind of part */
export function processFamilies(component: string, tag: string): Family[] {
  const files = openFiles();
  return [
    gauge("istio_build", "Istio component build info", [{ labels: { component, tag }, value: 1 }]),
    gauge("process_open_fds", "Number of open file descriptors", [bare(files.open)]),
    gauge("process_max_fds", "Maximum number of open file descriptors", [bare(files.max)]),
  ];
}

function openFiles(): { readonly open: number; readonly max: number } {
  const limit = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "latin1"))?.[1];
  return { open: readdirSync("/proc/self/fd").length, max: Number(limit ?? 0) };
}

// Command lines of the little programs in workloads/, to be run inside pods.
import { join } from "node:path";

export type Workload = "echo-server" | "http-server" | "client" | "slow-reader";

/** `workload("client", { host: "server", port: 80, keep: true })` */
export function workload(
  name: Workload,
  options: Readonly<Record<string, string | number | boolean>> = {},
): string[] {
  const flags = Object.entries(options).flatMap(([key, value]) => {
    const flag = `--${key.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`;
    if (value === false) return [];
    return [value === true ? flag : `${flag}=${value}`];
  });
  return [process.execPath, join(import.meta.dirname, "workloads", `${name}.ts`), ...flags];
}

/** One line of the client's output. */
export interface ClientEvent {
  readonly atMs: number;
  readonly event: "open" | "answer" | "error" | "close";
  readonly n?: number;
  readonly from?: string;
  /** "<server name> <client address> <text> <n>" from echo-server. */
  readonly answer?: string;
  readonly ms?: number;
  readonly error?: string;
}

export function clientEvents(output: string): ClientEvent[] {
  return output
    .split("\n")
    .filter((line) => line.startsWith("{") && line.endsWith("}"))
    .map((line) => JSON.parse(line) as ClientEvent);
}

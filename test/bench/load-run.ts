// Runs the load client inside a pod and reads its result.
import type { Socket } from "node:net";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { LabPod } from "../../lab/pod.ts";
import type { LabProcess } from "../../lab/process.ts";
import { connectFrom } from "../../lab/probe.ts";
import { COUNT, type LoadResult } from "./load/protocol.ts";

export type Load = "http" | "echo" | "connect" | "hold" | "first";

export interface Target {
  readonly host: string;
  readonly port: number;
}

export interface LoadOptions {
  readonly connections?: number;
  readonly seconds?: number;
  readonly size?: number;
}

/** Where the load server listens. */
export const PORT = 8080;
/** Beyond its own time a load may take this long to open, drain and report. */
const GRACE_MS = 10_000;
/** Opening thousands of connections may take longer than any measured interval. */
const HOLD_SECONDS = 60;

const file = (name: string): string => join(import.meta.dirname, "load", name);

export const serverCommand = (): string[] => [process.execPath, file("server.ts"), String(PORT)];

export function clientCommand(
  load: Load | "bulk",
  target: Target,
  options: LoadOptions = {},
): string[] {
  const flags = Object.entries({ ...target, ...options }).map(([k, v]) => `--${k}=${v}`);
  return [process.execPath, file("client.ts"), load, ...flags];
}

/** @throws {LabError} when the client fails or does not end in time */
export async function runLoad(
  from: LabPod,
  load: Load,
  target: Target,
  options: LoadOptions,
): Promise<LoadResult> {
  const timeoutMs = (options.seconds ?? 2) * 1_000 + GRACE_MS;
  const { stdout } = await from.exec(clientCommand(load, target, options), { timeoutMs });
  return JSON.parse(stdout.trim().split("\n")[0] ?? "{}") as LoadResult;
}

export interface BulkRun {
  /** Between the two counts. */
  readonly seconds: number;
  /** Received by the server in that time. */
  readonly bytes: number;
  readonly failures: number;
}

/** Streams need this long to reach their pace. */
const RAMP_MS = 300;
/** The client is stopped after the second count; by itself it would end so much later. */
const SPARE_SECONDS = 10;

/**
 * Bulk traffic, counted at the server over the middle of the run.
 * @param server   where the target's bytes arrive
 * @param onCount  called at the first and the second count
 */
export async function runBulk(
  from: LabPod,
  server: LabPod,
  target: Target,
  options: Required<Pick<LoadOptions, "connections" | "seconds">>,
  onCount: () => void,
): Promise<BulkRun> {
  const seconds = options.seconds + RAMP_MS / 1_000 + SPARE_SECONDS;
  await using counter = await Counter.open(server, PORT);
  const before = await counter.read();
  await using client = await from.start(clientCommand("bulk", target, { ...options, seconds }), {
    name: "bulk",
  });
  const deadline = Date.now() + GRACE_MS;
  while ((await counter.read()) === before) {
    if (Date.now() > deadline) throw new Error(`No bytes from ${from.name} to ${target.host}`);
    await sleep(5);
  }
  await sleep(RAMP_MS);
  const [first, started] = [await counter.read(), performance.now()];
  onCount();
  await sleep(options.seconds * 1_000);
  const [last, ended] = [await counter.read(), performance.now()];
  onCount();
  const failures = client.stdout.split("lost").length - 1;
  return { seconds: (ended - started) / 1_000, bytes: last - first, failures };
}

/** Asks a load server, from inside its pod, for the bytes it has received. */
class Counter implements AsyncDisposable {
  readonly #socket: Socket;

  private constructor(socket: Socket) {
    this.#socket = socket;
  }

  static async open(server: LabPod, port: number): Promise<Counter> {
    return new Counter(await connectFrom(server.netns, "127.0.0.1", port, GRACE_MS));
  }

  /** The answer is eight bytes in one piece: one is in flight at a time. */
  read(): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#socket.once("error", reject);
      this.#socket.once("data", (answer: Buffer) => {
        this.#socket.off("error", reject);
        resolve(Number(answer.readBigUInt64BE(0)));
      });
      this.#socket.write(Buffer.of(COUNT));
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.destroy();
  }
}

/** Open connections, held by a process in the pod until it is stopped. */
export interface Held extends AsyncDisposable {
  readonly result: LoadResult;
  /** When the last connection was closed by the far side, ms since the epoch. */
  closed(timeoutMs: number): Promise<number>;
}

export async function hold(from: LabPod, target: Target, connections: number): Promise<Held> {
  const command = clientCommand("hold", target, { connections, seconds: HOLD_SECONDS });
  const held: LabProcess = await from.start(command, { name: "hold" });
  try {
    const line = await held.waitForOutput(/^\{"seconds".*\}$/m, (HOLD_SECONDS + 30) * 1_000);
    const result = JSON.parse(line[0]) as LoadResult;
    if (result.operations < connections)
      throw new Error(`${result.operations} of ${connections} connections opened`);
    return {
      result,
      closed: async (timeoutMs) => {
        const [, at] = await held.waitForOutput(/^\{"closed":([\d.]+)\}$/m, timeoutMs);
        return Number(at);
      },
      [Symbol.asyncDispose]: () => held[Symbol.asyncDispose](),
    };
  } catch (error) {
    await held[Symbol.asyncDispose]();
    throw error;
  }
}

// TCP client for outages: holds connections open and makes new ones all the time, and prints once a second, as a
// JSON line, what became of them: sums since its start.
//   load.ts --host=server --port=80 [--text=load] [--kept=10] [--interval-ms=200] [--timeout-ms=3000]
import { lookup } from "node:dns/promises";
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    host: { type: "string", default: "127.0.0.1" },
    port: { type: "string", default: "8080" },
    text: { type: "string", default: "load" },
    kept: { type: "string", default: "10" },
    "interval-ms": { type: "string", default: "200" },
    "timeout-ms": { type: "string", default: "3000" },
  },
});
const timeoutMs = Number(values["timeout-ms"]);
const intervalMs = Number(values["interval-ms"]);
const kept = { open: 0, opened: 0, broken: 0, answers: 0 };
const fresh = { answered: 0, failed: 0 };
/** How often each reason was met, kept and fresh connections together. */
const errors: Record<string, number> = {};

/** Resolves with an open connection, or rejects. The name is asked for each time. */
async function open(): Promise<Socket> {
  const host = await soon(lookup(values.host), "name timeout");
  return await new Promise((resolve, reject) => {
    const socket = connect({ host: host.address, port: Number(values.port), noDelay: true });
    const timer = setTimeout(() => socket.destroy(new Error("connect timeout")), timeoutMs);
    socket.once("connect", () => {
      clearTimeout(timer);
      resolve(socket);
    });
    socket.once("error", (error) => {
      clearTimeout(timer);
      reject(error);
    });
  });
}

function soon<T>(promise: Promise<T>, reason: string): Promise<T> {
  const late = sleep(timeoutMs, undefined, { ref: false }).then(() => {
    throw new Error(reason);
  });
  return Promise.race([promise, late]);
}

/** Sends one line and waits for one that ends with it. */
function ask(socket: Socket, line: string): Promise<void> {
  return new Promise((resolve, reject) => {
    // it may have ended between two questions, when nobody listened
    if (socket.destroyed) {
      reject(socket.errored ?? new Error("closed"));
      return;
    }
    let received = "";
    const finish = (error?: Error): void => {
      clearTimeout(timer);
      socket.off("data", onData).off("close", onClose).off("error", finish);
      if (error === undefined) resolve();
      else reject(error);
    };
    const onData = (bytes: Buffer): void => {
      received += bytes.toString();
      if (!received.endsWith("\n")) return;
      finish(received.endsWith(`${line}\n`) ? undefined : new Error("wrong answer"));
    };
    const onClose = (): void => finish(socket.errored ?? new Error("closed"));
    const timer = setTimeout(() => finish(new Error("answer timeout")), timeoutMs);
    socket.on("data", onData).on("close", onClose).on("error", finish);
    socket.write(`${line}\n`);
  });
}

function count(error: unknown): void {
  const { code, message } = error as NodeJS.ErrnoException;
  const reason = code ?? message;
  errors[reason] = (errors[reason] ?? 0) + 1;
}

async function keep(number: number): Promise<never> {
  for (;;) {
    let socket: Socket | null = null;
    try {
      socket = await open();
      socket.on("error", () => {}); // met by the next question
      kept.open++;
      kept.opened++;
      for (let n = 1; ; n++) {
        await ask(socket, `${values.text} kept ${number} ${n}`);
        kept.answers++;
        await sleep(intervalMs);
      }
    } catch (error) {
      count(error);
      if (socket !== null) {
        kept.open--;
        kept.broken++;
        socket.destroy();
      }
    }
    await sleep(intervalMs);
  }
}

async function once(n: number): Promise<void> {
  try {
    const socket = await open();
    socket.on("error", () => {});
    try {
      await ask(socket, `${values.text} fresh ${n}`);
    } finally {
      socket.destroy();
    }
    fresh.answered++;
  } catch (error) {
    count(error);
    fresh.failed++;
  }
}

for (let number = 1; number <= Number(values.kept); number++) void keep(number);
setInterval(() => process.stdout.write(`${JSON.stringify({ kept, fresh, errors })}\n`), 1_000);
for (let n = 1; ; n++) {
  void once(n);
  await sleep(intervalMs);
}

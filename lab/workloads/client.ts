// TCP client that sends lines and prints what happened as JSON lines: {event: "open" | "answer" | "close", …}.
//   client.ts --host=server --port=80 [--text=hello] [--repeat=1] [--interval-ms=200] [--count=0] [--keep] [--timeout-ms=3000]
// Without --keep each line goes over a connection of its own. --count=0 never ends.
import { connect, type Socket } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    host: { type: "string", default: "127.0.0.1" },
    port: { type: "string", default: "8080" },
    text: { type: "string", default: "hello" },
    repeat: { type: "string", default: "1" },
    "interval-ms": { type: "string", default: "200" },
    count: { type: "string", default: "0" },
    keep: { type: "boolean", default: false },
    "timeout-ms": { type: "string", default: "3000" },
  },
});
const timeoutMs = Number(values["timeout-ms"]);
const text = values.text.repeat(Number(values.repeat));
const started = Date.now();

function report(event: Readonly<Record<string, unknown>>): void {
  process.stdout.write(`${JSON.stringify({ atMs: Date.now() - started, ...event })}\n`);
}

/** Resolves with an open connection. Rejects with what the kernel said, or after the timeout. */
function open(): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: values.host, port: Number(values.port), noDelay: true });
    const timer = setTimeout(() => socket.destroy(new Error("connect timeout")), timeoutMs);
    socket.setEncoding("utf8");
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

/** Sends one line and resolves with the line that comes back. */
function ask(socket: Socket, line: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let received = "";
    const done = (finish: () => void): void => {
      clearTimeout(timer);
      socket.off("data", onData).off("close", onClose).off("error", onError);
      finish();
    };
    const onData = (text: string): void => {
      received += text;
      const end = received.indexOf("\n");
      if (end >= 0) done(() => resolve(received.slice(0, end)));
    };
    const onClose = (): void => done(() => reject(new Error("closed without an answer")));
    const onError = (error: Error): void => done(() => reject(error));
    const timer = setTimeout(() => done(() => reject(new Error("answer timeout"))), timeoutMs);
    socket.on("data", onData).on("close", onClose).on("error", onError);
    socket.write(`${line}\n`);
  });
}

let kept: Socket | null = null;
const count = Number(values.count);
for (let n = 1; count === 0 || n <= count; n++) {
  const begin = performance.now();
  let socket: Socket | null = null;
  try {
    if (kept !== null) socket = kept;
    else {
      socket = await open();
      socket.on("error", () => {}); // reported by whoever waits for it
      if (values.keep) {
        kept = socket;
        socket.once("close", () => {
          kept = null;
          report({ event: "close" });
        });
      }
      report({ event: "open", from: `${socket.localAddress}:${socket.localPort}` });
    }
    const answer = await ask(socket, `${text} ${n}`);
    report({ event: "answer", n, answer, ms: Math.round((performance.now() - begin) * 100) / 100 });
    if (!values.keep) socket.destroy();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    report({ event: "error", n, error: code ?? message });
    socket?.destroy();
    kept = null;
  }
  if (n !== count) await sleep(Number(values["interval-ms"]));
}
kept?.destroy();

// HTTP/1.1 over the agent's unix socket, one request a connection. The agent decides; this side only
// asks, once, with a deadline.
import { connect } from "node:net";
import { parseReply, type AgentReply } from "./reply.ts";

export type { AgentReply };

/** Dial and reply together. Runtimes wait minutes for an ADD: a retry is kubelet's to make. */
export const AGENT_TIMEOUT_MS = 5_000;
const MAX_REPLY_BYTES = 1 << 20;

export interface AskOptions {
  readonly headers?: Readonly<Record<string, string>>;
  readonly timeoutMs?: number;
}

/** @throws when the agent cannot be reached or does not answer in time */
export function askAgent(
  socketPath: string,
  method: "GET" | "POST",
  path: string,
  body: string,
  options: AskOptions = {},
): Promise<AgentReply> {
  const timeoutMs = options.timeoutMs ?? AGENT_TIMEOUT_MS;
  return new Promise((resolve, reject) => {
    const socket = connect({ path: socketPath });
    const timer = setTimeout(
      () => socket.destroy(new Error(`no reply within ${timeoutMs} ms`)),
      timeoutMs,
    );
    let received = Buffer.alloc(0);
    const settle = (isEnd: boolean): void => {
      try {
        const reply = parseReply(received, isEnd);
        if (reply === null) return;
        clearTimeout(timer);
        socket.destroy();
        resolve(reply);
      } catch (error) {
        socket.destroy(error as Error);
      }
    };
    socket.on("data", (chunk: Buffer) => {
      received = Buffer.concat([received, chunk]);
      if (received.length > MAX_REPLY_BYTES)
        socket.destroy(new Error(`the reply exceeds ${MAX_REPLY_BYTES} bytes`));
      else settle(false);
    });
    socket.once("end", () => settle(true));
    socket.once("error", (error) => {
      clearTimeout(timer);
      reject(error);
    });
    socket.write(requestText(method, path, body, options.headers ?? {}));
  });
}

function requestText(
  method: string,
  path: string,
  body: string,
  headers: Readonly<Record<string, string>>,
): string {
  const lines = [
    `${method} ${path} HTTP/1.1`,
    "Host: istio-cni",
    "Connection: close",
    "Content-Type: application/json",
    `Content-Length: ${Buffer.byteLength(body)}`,
    // values come from a runtime's environment: nothing in them may start another header
    ...Object.entries(headers)
      .filter(([, value]) => /^[\x20-\x7e]*$/.test(value))
      .map(([name, value]) => `${name}: ${value}`),
  ];
  return `${lines.join("\r\n")}\r\n\r\n${body}`;
}

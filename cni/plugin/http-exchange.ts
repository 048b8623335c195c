// One HTTP/1.1 request and its response over a stream that was opened for it. Written here because
// loading node:http costs 7 ms of every pod start.
import type { Duplex } from "node:stream";
import { parseReply, type HttpReply } from "./reply.ts";

export type { HttpReply };

export interface HttpQuestion {
  readonly method: "GET" | "POST";
  readonly path: string;
  readonly host: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** Connecting and answering together. */
  readonly timeoutMs: number;
  readonly maxReplyBytes: number;
}

/**
 * Takes `stream`, which may still be connecting.
 * @throws when it cannot connect, does not answer in time, or answers with something else
 */
export function exchange(stream: Duplex, question: HttpQuestion): Promise<HttpReply> {
  const { timeoutMs, maxReplyBytes } = question;
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => stream.destroy(new Error(`no reply within ${timeoutMs} ms`)),
      timeoutMs,
    );
    const chunks: Buffer[] = [];
    let size = 0;
    const settle = (isEnd: boolean): void => {
      try {
        const all = chunks.length === 1 ? (chunks[0] ?? Buffer.alloc(0)) : Buffer.concat(chunks);
        const reply = parseReply(all, isEnd);
        chunks.splice(0, chunks.length, all);
        if (reply === null) return;
        clearTimeout(timer);
        stream.destroy();
        resolve(reply);
      } catch (error) {
        stream.destroy(error as Error);
      }
    };
    stream.on("data", (chunk: Buffer) => {
      chunks.push(chunk);
      size += chunk.length;
      if (size > maxReplyBytes)
        stream.destroy(new Error(`the reply exceeds ${maxReplyBytes} bytes`));
      else settle(false);
    });
    stream.once("end", () => settle(true));
    stream.once("error", (error) => {
      clearTimeout(timer);
      reject(error);
    });
    stream.once("close", () => {
      clearTimeout(timer);
      reject(new Error("the connection ended without a reply"));
    });
    stream.write(textOf(question));
  });
}

function textOf({ method, path, host, headers = {}, body }: HttpQuestion): string {
  const lines = [
    `${method} ${path} HTTP/1.1`,
    `Host: ${host}`,
    "Connection: close",
    ...(body === undefined
      ? []
      : ["Content-Type: application/json", `Content-Length: ${Buffer.byteLength(body)}`]),
    // values come from a runtime's environment: nothing in them may start another header
    ...Object.entries(headers)
      .filter(([, value]) => /^[\x20-\x7e]*$/.test(value))
      .map(([name, value]) => `${name}: ${value}`),
  ];
  return `${lines.join("\r\n")}\r\n\r\n${body ?? ""}`;
}

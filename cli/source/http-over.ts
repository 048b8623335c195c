// One HTTP exchange over a byte stream that is already open: a forwarded port of a pod.
import { request, type IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import type { Duplex } from "node:stream";
import { text } from "node:stream/consumers";
import { CliError } from "../errors.ts";

/**
 * Takes `stream`: it ends with the answer.
 * @throws {CliError} UNREACHABLE with status and reason for any answer but 200
 */
export async function httpOver(
  stream: Duplex,
  method: "GET" | "POST",
  path: string,
  signal: AbortSignal,
): Promise<IncomingMessage> {
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const req = request(
      {
        createConnection: () => stream as Socket,
        method,
        path,
        headers: { host: "localhost", connection: "close" },
        signal,
      },
      resolve,
    );
    req.on("error", (error) => {
      stream.destroy();
      reject(signal.aborted ? (signal.reason as Error) : error);
    });
    req.end();
  });
  response.once("close", () => stream.destroy());
  if (response.statusCode === 200) return response;
  const reason = (await text(response)).trim().slice(0, 200);
  throw new CliError(
    "UNREACHABLE",
    `HTTP ${response.statusCode}${reason === "" ? "" : `: ${reason}`}`,
  );
}

// Questions to the node agent over its unix sockets, one request a connection. The agent decides; this
// side only asks, once, with a deadline.
import { connect } from "node:net";
import { exchange, type HttpReply } from "./http-exchange.ts";

/** Dial and reply together. Runtimes wait minutes for an ADD: a retry is kubelet's to make. */
const AGENT_TIMEOUT_MS = 5_000;
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
): Promise<HttpReply> {
  return exchange(connect({ path: socketPath }), {
    method,
    path,
    host: "istio-cni",
    headers: options.headers ?? {},
    body,
    timeoutMs: options.timeoutMs ?? AGENT_TIMEOUT_MS,
    maxReplyBytes: MAX_REPLY_BYTES,
  });
}

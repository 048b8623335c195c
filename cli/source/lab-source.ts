// The ztunnels of a running lab, reached through the lab's control socket: their admin ports listen inside
// the nodes' network namespaces, where only the lab's own process is at home.
import { request, type IncomingMessage } from "node:http";
import { text } from "node:stream/consumers";
import { CliError } from "../errors.ts";
import type { Io } from "../io.ts";
import { parseJson, type Json } from "./json.ts";
import { readLabState, type LabState } from "./lab-state.ts";
import type { AdminPath, LiveSource } from "./mesh-source.ts";
import { splitLines } from "./ndjson.ts";

/** @throws {CliError} UNREACHABLE when no lab runs */
export async function openLabSource(
  dir: string | undefined,
  io: Pick<Io, "env">,
): Promise<LabSource> {
  return new LabSource(await readLabState(dir, io));
}

export class LabSource implements LiveSource {
  readonly name: string;
  readonly confidence = "live";
  readonly statusCommand = "ambit lab status";
  readonly #state: LabState;

  constructor(state: LabState) {
    this.#state = state;
    this.name = `the lab at ${state.dir}`;
  }

  async nodes(): Promise<readonly string[]> {
    if (this.#state.nodes.length === 0)
      throw new CliError("UNREACHABLE", `${this.name} has no nodes`, ["see: ambit lab status"]);
    return this.#state.nodes.map((n) => n.name);
  }

  async fetch(node: string, path: AdminPath, signal: AbortSignal): Promise<Json> {
    const response = await this.#request("GET", node, path, signal);
    return parseJson(await text(response), `${path} of ${node}`);
  }

  async *lines(node: string, path: string, signal: AbortSignal): AsyncIterable<string> {
    try {
      yield* splitLines(await this.#request("GET", node, path, signal));
    } catch (error) {
      if (!signal.aborted) throw error;
    }
  }

  async istiodVersion(signal: AbortSignal): Promise<string> {
    const answer = await text(await this.#send("GET", "/istiod/version", signal));
    return parseJson(answer, "istiod's version").at("version").text("unknown");
  }

  async logging(node: string, query: string, signal: AbortSignal): Promise<string> {
    return await text(await this.#request("POST", node, `/logging${query}`, signal));
  }

  #adminOf(node: string): string {
    const found = this.#state.nodes.find((n) => n.name === node);
    if (found === undefined) throw new CliError("NOT_FOUND", `${this.name} has no node ${node}`);
    return found.ztunnelAdmin;
  }

  async #request(
    method: "GET" | "POST",
    node: string,
    path: string,
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    return await this.#send(method, `${this.#adminOf(node)}${path}`, signal);
  }

  async #send(method: "GET" | "POST", path: string, signal: AbortSignal): Promise<IncomingMessage> {
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const req = request(
        {
          socketPath: this.#state.controlSocket,
          method,
          path,
          headers: { host: "lab" },
          signal,
        },
        resolve,
      );
      req.on("error", (error) =>
        reject(signal.aborted ? (signal.reason as Error) : unreachable(error, this.#state)),
      );
      req.end();
    });
    if (response.statusCode === 200) return response;
    throw new CliError("UNREACHABLE", reasonOf(response.statusCode ?? 0, await text(response)));
  }
}

/** The lab's own refusals are JSON; a ztunnel's are text. */
function reasonOf(status: number, body: string): string {
  const said = /^\{"error":"((?:[^"\\]|\\.)*)"/.exec(body)?.[1];
  if (said !== undefined) return JSON.parse(`"${said}"`) as string;
  const reason = body.trim().slice(0, 200);
  return `HTTP ${status}${reason === "" ? "" : `: ${reason}`}`;
}

function unreachable(error: NodeJS.ErrnoException, state: LabState): CliError {
  return new CliError(
    "UNREACHABLE",
    `The lab at ${state.dir} does not answer: ${error.code ?? error.message}`,
    error.code === "EACCES"
      ? ["it was started by another user: run ambit as that user, or with sudo"]
      : ["it may have ended without cleaning up: ambit lab down, then ambit lab up"],
    error,
  );
}

// Where answers come from: the ztunnels of a running lab, or a saved file. Commands see only this.
import { KubeError } from "#lib/kube/errors.ts";
import { CliError } from "../errors.ts";
import type { Unanswered } from "../render/output.ts";
import type { Json } from "./json.ts";

/** Documents a ztunnel serves on its admin port. */
export type AdminPath = "/config_dump" | "/ambit/tunnels";

export interface MeshSource {
  /** For sentences: `the lab at /run/ambit-lab`. */
  readonly name: string;
  readonly confidence: "live" | "snapshot";
  /** The command that says which parts run. */
  readonly statusCommand: string;
  /** Nodes with a ztunnel, by name. Never empty. */
  nodes(): Promise<readonly string[]>;
  /** @throws when the ztunnel cannot be asked; `gather` turns that into a partial answer */
  fetch(node: string, path: AdminPath, signal: AbortSignal): Promise<Json>;
  /** One JSON text per line, until `signal` aborts or the ztunnel ends. */
  lines(node: string, path: string, signal: AbortSignal): AsyncIterable<string>;
}

/** A running mesh, which can be asked and told more than a file. */
export interface LiveSource extends MeshSource {
  /** What istiod says it is. */
  istiodVersion(signal: AbortSignal): Promise<string>;
  /** Reads or changes a ztunnel's log filter. @returns its answer */
  logging(node: string, query: string, signal: AbortSignal): Promise<string>;
}

export interface Gathered<T> {
  readonly answers: readonly { readonly node: string; readonly value: T }[];
  readonly partial: readonly Unanswered[];
}

/** Ztunnels asked at a time. */
const PARALLEL = 8;

export interface GatherOptions {
  readonly node?: string | undefined;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/**
 * Fetches a document of every ztunnel, or only `node`'s.
 * @throws {CliError} UNREACHABLE when none answered, NOT_FOUND for an unknown node
 */
export async function gather<T>(
  source: MeshSource,
  path: AdminPath,
  parse: (json: Json) => T,
  options: GatherOptions,
): Promise<Gathered<T>> {
  const ask = async (node: string, signal: AbortSignal): Promise<T> =>
    parse(await source.fetch(node, path, signal));
  return await askAll(source, path, ask, options);
}

/**
 * Asks every ztunnel, or only `node`'s. Some failures make the answer partial.
 * @param what  for sentences: what is asked
 * @throws {CliError} UNREACHABLE when none answered, NOT_FOUND for an unknown node
 */
export async function askAll<T>(
  source: Pick<MeshSource, "name" | "nodes" | "statusCommand">,
  what: string,
  ask: (node: string, signal: AbortSignal) => Promise<T>,
  options: GatherOptions,
): Promise<Gathered<T>> {
  const nodes = await chosenNodes(source, options.node);
  const answers: { node: string; value: T }[] = [];
  const partial: Unanswered[] = [];
  const refused: KubeError[] = [];
  const queue = nodes.values();
  const worker = async (): Promise<void> => {
    for (const node of queue) {
      const signal = AbortSignal.any([options.signal, AbortSignal.timeout(options.timeoutMs)]);
      try {
        answers.push({ node, value: await ask(node, signal) });
      } catch (error) {
        options.signal.throwIfAborted();
        // A file that is wrong, or the one node asked for, is the answer itself.
        if (nodes.length === 1 && error instanceof CliError && error.code !== "UNREACHABLE")
          throw error;
        if (error instanceof KubeError && error.code === "FORBIDDEN") refused.push(error);
        partial.push({ node, error: reasonOf(error, options.timeoutMs) });
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(PARALLEL, nodes.length) }, worker));
  if (answers.length === 0) {
    // Not the ztunnels' doing: one of the refusals says which permission is missing.
    if (refused[0] !== undefined && refused.length === nodes.length) throw refused[0];
    const reasons = partial.map((p) => `${p.node}: ${p.error}`);
    reasons.push(`${source.statusCommand} shows which parts run`);
    throw new CliError("UNREACHABLE", `No ztunnel of ${source.name} answered ${what}`, reasons);
  }
  const order = (a: { node: string }, b: { node: string }): number => a.node.localeCompare(b.node);
  return { answers: answers.sort(order), partial: partial.sort(order) };
}

/** All nodes, or the one asked for. @throws {CliError} NOT_FOUND */
export async function chosenNodes(
  source: Pick<MeshSource, "name" | "nodes">,
  node: string | undefined,
): Promise<readonly string[]> {
  const nodes = await source.nodes();
  if (node === undefined) return nodes;
  if (nodes.includes(node)) return [node];
  throw new CliError("NOT_FOUND", `No ztunnel on node ${JSON.stringify(node)} in ${source.name}`, [
    `nodes: ${nodes.join(", ")}`,
  ]);
}

function reasonOf(error: unknown, timeoutMs: number): string {
  if (error instanceof Error && error.name === "TimeoutError")
    return `no answer within ${timeoutMs} ms`;
  return error instanceof Error ? error.message : String(error);
}

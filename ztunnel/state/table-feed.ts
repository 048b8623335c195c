// From xDS to every replica of the tables: the main thread validates each resource against its own
// replica, then hands the accepted bytes to the workers in shared memory, a bounded batch at a time.
import type { MeshTables } from "#lib/model/tables.ts";
import type { Rejection, TableOp } from "#lib/model/table-op.ts";
import type { DeltaUpdate } from "#lib/xds/delta-client.ts";
import type { ToWorker } from "../proxy/messages.ts";

/** Resources in one message: a worker applies a batch in a few milliseconds, between two turns of its traffic. */
export const BATCH_RESOURCES = 256;

type Kind = "address" | "policy";

/** Owns nothing; borrows the tables and the way to the workers. */
export class TableFeed {
  readonly #tables: MeshTables;
  readonly #send: (message: Extract<ToWorker, { readonly type: "tables" }>) => void;

  /** @param send  reaches every worker */
  constructor(
    tables: MeshTables,
    send: (message: Extract<ToWorker, { readonly type: "tables" }>) => void,
  ) {
    this.#tables = tables;
    this.#send = send;
  }

  /**
   * Applies one piece of an xDS response here and in the workers. Policies of one piece travel in one
   * message, so that no connection is judged by half of an update.
   * @returns what was refused; the workers never see it
   */
  apply(kind: Kind, update: DeltaUpdate): Rejection[] {
    const ops: TableOp[] = update.resources.map(({ name, bytes }) => ({ op: kind, name, bytes }));
    const removals = update.removed.map((name): TableOp => ({ op: `remove-${kind}`, name }));
    const rejected: Rejection[] = [];
    const accepted = this.#accepted(ops, rejected);
    this.#tables.apply(removals);
    accepted.push(...removals);
    const step = kind === "policy" ? accepted.length : BATCH_RESOURCES;
    for (let at = 0; at < accepted.length; at += step)
      this.#send({ type: "tables", ops: shared(accepted.slice(at, at + step)) });
    return rejected;
  }

  #accepted(ops: readonly TableOp[], rejected: Rejection[]): TableOp[] {
    const refused = this.#tables.apply(ops);
    if (refused.length === 0) return [...ops];
    rejected.push(...refused);
    // By name: a name sent twice in one response is rejected as a whole, which istiod never does.
    const names = new Set(refused.map((r) => r.name));
    return ops.filter((op) => !names.has(op.name));
  }
}

/** The same changes with their bytes side by side in one block that all workers map, none copies. */
function shared(ops: readonly TableOp[]): TableOp[] {
  let size = 0;
  for (const op of ops) if ("bytes" in op) size += op.bytes.length;
  if (size === 0) return [...ops];
  const block = new Uint8Array(new SharedArrayBuffer(size));
  let at = 0;
  return ops.map((op) => {
    if (!("bytes" in op)) return op;
    block.set(op.bytes, at);
    const bytes = block.subarray(at, at + op.bytes.length);
    at += op.bytes.length;
    return { ...op, bytes };
  });
}

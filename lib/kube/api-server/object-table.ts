// The objects of one watch as last seen, and what a change of them tells the watchers. Malformed
// objects change nothing: the last good state stays, the fault is named once per version.
import type { KubeObject, Resource, WatchEvent } from "../cluster.ts";
import { KubeError } from "../errors.ts";
import { isJsonObject, type JsonObject } from "../json.ts";
import { parseObject } from "../parse-object.ts";
import { FieldError } from "../schema.ts";
import { type Keeps, strip, withoutManagedFields } from "./strip.ts";
import { versionOf } from "./watch-event.ts";

interface Fault {
  readonly version: string;
  readonly error: KubeError;
}

export interface TableChange {
  readonly events: readonly WatchEvent<KubeObject>[];
  readonly errors: readonly KubeError[];
}

export class ObjectTable {
  readonly #resource: Resource;
  readonly #reduce: (resource: Resource, whole: JsonObject) => JsonObject;
  readonly #objects = new Map<string, KubeObject>();
  readonly #faults = new Map<string, Fault>();
  /** Names met since `beginRelist`; what is not among them at its end has gone. */
  #met: Set<string> | null = null;
  #events: WatchEvent<KubeObject>[] = [];
  #errors: KubeError[] = [];

  constructor(resource: Resource, keeps: Keeps) {
    this.#resource = resource;
    // What has only metadata has nothing else to keep.
    const isWhole = keeps === "everything" && resource.metadataOnly !== true;
    this.#reduce = isWhole ? withoutManagedFields : strip;
  }

  objects(): Iterable<KubeObject> {
    return this.#objects.values();
  }

  /** What stands wrong now, for watchers that come later. */
  errors(): readonly KubeError[] {
    return [...this.#faults.values()].map((fault) => fault.error);
  }

  put(whole: JsonObject): void {
    const key = keyOf(whole);
    const version = versionOf(whole);
    this.#met?.add(key);
    const known = this.#objects.get(key);
    if (version !== "" && known?.metadata.resourceVersion === version) return;
    if (version !== "" && this.#faults.get(key)?.version === version) return;
    let object: KubeObject;
    try {
      object = parseObject(this.#reduce(this.#resource, whole));
    } catch (cause) {
      const error = malformed(this.#resource, key, cause);
      this.#faults.set(key, { version, error });
      this.#errors.push(error);
      return;
    }
    this.#faults.delete(key);
    this.#objects.set(key, object);
    if (known === undefined) this.#events.push({ type: "added", object });
    else if (known.metadata.uid === object.metadata.uid)
      this.#events.push({ type: "modified", object });
    else this.#events.push({ type: "deleted", object: known }, { type: "added", object });
  }

  delete(whole: JsonObject): void {
    this.#forget(keyOf(whole));
  }

  beginRelist(): void {
    this.#met = new Set();
  }

  /** Whatever was not put since `beginRelist` is gone. */
  endRelist(): void {
    const met = this.#met;
    this.#met = null;
    if (met === null) return;
    for (const key of [...this.#objects.keys(), ...this.#faults.keys()])
      if (!met.has(key)) this.#forget(key);
  }

  /** What happened since the last call. */
  takeChange(): TableChange {
    const change = { events: this.#events, errors: this.#errors };
    this.#events = [];
    this.#errors = [];
    return change;
  }

  #forget(key: string): void {
    this.#faults.delete(key);
    const known = this.#objects.get(key);
    if (known === undefined) return;
    this.#objects.delete(key);
    this.#events.push({ type: "deleted", object: known });
  }
}

/** A whole object as the API server gave it. @throws {KubeError} `INVALID` naming object and field */
export function parseWhole(resource: Resource, whole: unknown): KubeObject {
  if (!isJsonObject(whole))
    throw new KubeError("UNAVAILABLE", `The API server sent no ${resource.kind}`);
  try {
    return parseObject(withoutManagedFields(resource, whole));
  } catch (cause) {
    throw malformed(resource, keyOf(whole), cause);
  }
}

function malformed(resource: Resource, key: string, cause: unknown): KubeError {
  const message = cause instanceof Error ? cause.message : String(cause);
  return new KubeError("INVALID", `${resource.kind} ${key}: ${message}`, {
    ...(cause instanceof FieldError ? { field: cause.path } : {}),
    object: key,
    cause,
  });
}

/** Read before anything is checked. */
function keyOf({ metadata }: JsonObject): string {
  const { namespace, name } = isJsonObject(metadata) ? metadata : {};
  const shown = typeof name === "string" ? name : "(no name)";
  return typeof namespace === "string" ? `${namespace}/${shown}` : shown;
}

// Objects that got past admission though nobody can read them: which, and what is wrong. Their last good
// state, if this process has seen one, stays in the tables; nothing else is touched.
import type { KubeObject, Resource, WatchEvent } from "#lib/kube/cluster.ts";
import { KubeError } from "#lib/kube/errors.ts";
import { objectName } from "#lib/kube/objects.ts";

export interface MalformedObject {
  readonly resource: Resource;
  readonly namespace: string | null;
  readonly name: string;
  /** Names the field. */
  readonly message: string;
}

/** More are only logged: a thousand broken objects are one mistake. */
const MAX_OBJECTS = 1_000;

export class MalformedObjects {
  /** By `Kind/namespace/name`, as conditions are. */
  readonly #objects = new Map<string, MalformedObject>();
  readonly #onChange: (key: string) => void;

  /** @param onChange told of each object that became malformed, or is no longer, or in another way */
  constructor(onChange: (key: string) => void) {
    this.#onChange = onChange;
  }

  get(key: string): MalformedObject | undefined {
    return this.#objects.get(key);
  }

  keys(): Iterable<string> {
    return this.#objects.keys();
  }

  /** An error of the watch of `resource`. */
  note(resource: Resource, error: Error): void {
    if (!(error instanceof KubeError) || error.code !== "INVALID" || error.object === null) return;
    const key = `${resource.kind}/${error.object}`;
    const { message } = error;
    if (this.#objects.get(key)?.message === message) return;
    if (this.#objects.size >= MAX_OBJECTS && !this.#objects.has(key)) return;
    const slash = error.object.indexOf("/");
    const namespace = slash < 0 ? null : error.object.slice(0, slash);
    this.#objects.set(key, { resource, namespace, name: error.object.slice(slash + 1), message });
    this.#onChange(key);
  }

  /** These were read, or are gone. Costs nothing while all is well. */
  read(resource: Resource, events: readonly WatchEvent<KubeObject>[]): void {
    if (this.#objects.size === 0) return;
    for (const { object } of events) this.forget(`${resource.kind}/${objectName(object)}`);
  }

  forget(key: string): void {
    if (this.#objects.delete(key)) this.#onChange(key);
  }
}

// Every policy, and which of them apply to a workload: those of its namespace, the global ones, and those it names.
import type { Authorization } from "./authorization.ts";
import { policySet, type PolicySet } from "./rbac.ts";
import type { Workload } from "./workload.ts";

export class PolicyIndex {
  readonly #byKey = new Map<string, Authorization>();
  readonly #byNamespace = new Map<string, Map<string, Authorization>>();
  readonly #global = new Map<string, Authorization>();
  /** Per workload record; thrown away whole when any policy changes. */
  #cache = new WeakMap<Workload, PolicySet>();
  #generation = 0;

  get size(): number {
    return this.#byKey.size;
  }

  /** Rises with every change: open connections are asked about again when it moved. */
  get generation(): number {
    return this.#generation;
  }

  all(): MapIterator<Authorization> {
    return this.#byKey.values();
  }

  byKey(key: string): Authorization | null {
    return this.#byKey.get(key) ?? null;
  }

  /** Hot path: runs per connection; a set is built once per workload record and policy change. */
  policiesFor(w: Workload): PolicySet {
    const cached = this.#cache.get(w);
    if (cached !== undefined) return cached;
    const made = this.#collect(w);
    this.#cache.set(w, made);
    return made;
  }

  put(p: Authorization): void {
    this.remove(p.key);
    this.#byKey.set(p.key, p);
    if (p.scope === "Global") this.#global.set(p.key, p);
    if (p.scope === "Namespace") {
      let named = this.#byNamespace.get(p.namespace);
      if (named === undefined) this.#byNamespace.set(p.namespace, (named = new Map()));
      named.set(p.key, p);
    }
    this.#changed();
  }

  remove(key: string): boolean {
    const p = this.#byKey.get(key);
    if (p === undefined) return false;
    this.#byKey.delete(key);
    this.#global.delete(key);
    const named = this.#byNamespace.get(p.namespace);
    if (named?.delete(key) === true && named.size === 0) this.#byNamespace.delete(p.namespace);
    this.#changed();
    return true;
  }

  #changed(): void {
    this.#cache = new WeakMap();
    this.#generation++;
  }

  #collect(w: Workload): PolicySet {
    const found = new Set<Authorization>(this.#byNamespace.get(w.namespace)?.values());
    for (const p of this.#global.values()) found.add(p);
    const unknown: string[] = [];
    for (const key of w.authorizationPolicies) {
      const p = this.#byKey.get(key);
      if (p === undefined) unknown.push(key);
      else found.add(p);
    }
    return policySet(found, unknown);
  }
}

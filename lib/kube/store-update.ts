// What one pass over the files changed, object by object.
import type { KubeObject } from "./cluster.ts";
import type { KubeError } from "./errors.ts";

export interface StoreChange {
  readonly key: string;
  readonly before: KubeObject | null;
  readonly after: KubeObject | null;
}

export interface StoreUpdate {
  readonly changes: readonly StoreChange[];
  /** Newly appeared; each is reported once. */
  readonly errors: readonly KubeError[];
}

/** Collects what one pass changed; an object that changes twice is one change. */
export class Update {
  readonly #changes = new Map<string, StoreChange>();
  readonly errors: KubeError[] = [];

  get isEmpty(): boolean {
    return this.#changes.size === 0 && this.errors.length === 0;
  }

  change(key: string, before: KubeObject | null, after: KubeObject | null): void {
    const first = this.#changes.get(key);
    this.#changes.set(key, { key, before: first === undefined ? before : first.before, after });
  }

  done(): StoreUpdate {
    const changes = [...this.#changes.values()].filter((c) => c.before !== c.after);
    return { changes, errors: this.errors };
  }
}

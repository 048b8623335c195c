// Waits for a pod's own record: the agent may announce a pod before the control plane does.
import type { MeshTables } from "#lib/model/tables.ts";
import type { Workload } from "#lib/model/workload.ts";
import type { PodInfo } from "../proxy/messages.ts";

/** How long any use of a pod waits for its record (Istio's ztunnel has the same limit). */
const WAIT_MS = 5_000;

export class WorkloadWatch {
  readonly #tables: MeshTables;
  readonly #waiting = new Set<() => void>();

  constructor(tables: MeshTables) {
    this.#tables = tables;
  }

  /** Call after each change of addresses. */
  notify(): void {
    for (const look of this.#waiting) look();
  }

  /** The pod's record, or null when it has not come within 5 s or `signal` aborts. */
  find(pod: PodInfo, signal: AbortSignal): Promise<Workload | null> {
    const known = this.#tables.localWorkload(pod);
    if (known !== null || signal.aborted) return Promise.resolve(known);
    return new Promise((resolve) => {
      const settle = (found: Workload | null): void => {
        clearTimeout(timer);
        signal.removeEventListener("abort", giveUp);
        this.#waiting.delete(look);
        resolve(found);
      };
      const giveUp = (): void => settle(null);
      const look = (): void => {
        const found = this.#tables.localWorkload(pod);
        if (found !== null) settle(found);
      };
      const timer = setTimeout(giveUp, WAIT_MS);
      signal.addEventListener("abort", giveUp, { once: true });
      this.#waiting.add(look);
    });
  }
}

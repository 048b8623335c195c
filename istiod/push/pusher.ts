// Sends every change to every client at once. Nothing waits for more changes to come: only those that
// come while a change is being sent are joined to one.
import type { Logger } from "#lib/obs/log.ts";
import type { Metrics } from "../metrics.ts";
import type { MeshDelta, MeshTables } from "../translate/mesh.ts";
import type { XdsConnection } from "./connection.ts";
import type { PushState } from "./push-state.ts";
import { changedNames, encodeChange, mergeNames, type ChangedNames } from "./shared-push.ts";

export interface PusherOptions {
  readonly tables: MeshTables;
  readonly state: PushState;
  readonly connections: Iterable<XdsConnection>;
  readonly metrics: Metrics;
  readonly log: Logger;
  /** Milliseconds, monotonic. */
  readonly now: () => number;
}

/** Clients served in one turn of the event loop; between turns requests are read and changes joined. */
const CLIENTS_PER_TURN = 128;

interface Pending {
  readonly changed: ChangedNames;
  readonly sinceMs: number;
}

export class Pusher {
  readonly #options: PusherOptions;
  #pending: Pending | null = null;
  #isSending = false;

  constructor(options: PusherOptions) {
    this.#options = options;
  }

  /** Call right after the tables have changed, in the same turn. */
  publish(delta: MeshDelta): void {
    const { tables, state, metrics, now } = this.#options;
    const changed = changedNames(delta, tables);
    const { addresses, policies, waypointPolicies } = changed;
    if (addresses.size + policies.size + waypointPolicies.size === 0) return;
    state.advance();
    metrics.pushTriggers.inc({ type: "ambient" });
    metrics.resources.set({ type: "wds" }, tables.addresses().size);
    metrics.resources.set({ type: "wads" }, tables.authorizations().size);
    metrics.resources.set({ type: "waypoint" }, tables.waypointPolicies().size);
    this.#pending =
      this.#pending === null
        ? { changed, sinceMs: now() }
        : { ...this.#pending, changed: mergeNames(this.#pending.changed, changed) };
    if (!this.#isSending) this.#send();
  }

  #send(): void {
    const pending = this.#pending;
    this.#isSending = pending !== null;
    if (pending === null) return;
    this.#pending = null;
    const { tables, state } = this.#options;
    const version = state.version;
    const clients = [...this.#options.connections];
    const shared =
      clients.length === 0
        ? []
        : encodeChange(pending.changed, tables, String(version), state.nonce);
    const turn = (start: number): void => {
      const end = Math.min(start + CLIENTS_PER_TURN, clients.length);
      for (let i = start; i < end; i++) clients[i]?.push(pending.changed, shared, version);
      if (end < clients.length) {
        setImmediate(turn, end);
        return;
      }
      const seconds = (this.#options.now() - pending.sinceMs) / 1000;
      this.#options.metrics.pushTime.observe({ type: "wds" }, seconds);
      this.#options.log.debug(
        {
          addresses: pending.changed.addresses.size,
          policies: pending.changed.policies.size,
          waypointPolicies: pending.changed.waypointPolicies.size,
          clients: clients.length,
          ms: Math.round(seconds * 1e5) / 100,
        },
        "pushed",
      );
      // The turn between lets the changes that are waiting to be read come in and be joined.
      setImmediate(() => this.#send());
    };
    turn(0);
  }
}

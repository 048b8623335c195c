// What every connection of a worker works with. One instance per worker.
import type { Random } from "#lib/base/clock.ts";
import type { PeerBook } from "#lib/hbone/peer-book.ts";
import type { MeshTables } from "#lib/model/tables.ts";
import type { Reactor } from "#lib/sys/reactor.ts";
import type { RandomUint32 } from "#lib/wire/traceparent.ts";
import type { Identities } from "#lib/proxy/identities.ts";
import type { Telemetry } from "#lib/proxy/telemetry/telemetry.ts";
import type { WorkerConfig } from "./worker-config.ts";

export interface DataPlaneContext {
  readonly config: WorkerConfig;
  readonly reactor: Reactor;
  readonly tables: MeshTables;
  readonly identities: Identities;
  readonly telemetry: Telemetry;
  /** What peers have left of their budgets, whichever pod's tunnels they used. */
  readonly peers: PeerBook;
  readonly random: Random;
  readonly randomUint32: RandomUint32;
  /** Looks a host name up with the proxy's own resolver; the answer comes later, null for none. */
  readonly resolve: (
    hostname: string,
    prefer: "ipv4" | "ipv6",
    then: (ip: string | null) => void,
  ) => void;
}

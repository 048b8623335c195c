// What every connection of the waypoint works with. One instance per process.
import type { Random } from "#lib/base/clock.ts";
import type { Identities } from "#lib/proxy/identities.ts";
import type { PeerBook } from "#lib/hbone/peer-book.ts";
import type { HbonePool } from "#lib/hbone/pool.ts";
import type { Live } from "#lib/proxy/telemetry/live.ts";
import type { Telemetry } from "#lib/proxy/telemetry/telemetry.ts";
import type { MeshTables } from "#lib/model/tables.ts";
import type { WaypointPolicies } from "#lib/model/waypoint-policy.ts";
import type { Ip } from "#lib/net/ip.ts";
import type { Logger } from "#lib/obs/log.ts";
import type { Reactor } from "#lib/sys/reactor.ts";
import type { RandomUint32 } from "#lib/wire/traceparent.ts";
import type { Config } from "./config.ts";
import type { OwnRecord } from "./state/own-record.ts";

export interface WaypointContext {
  readonly config: Config;
  readonly reactor: Reactor;
  readonly tables: MeshTables;
  readonly policies: WaypointPolicies;
  readonly own: OwnRecord;
  /** Holds the certificate of one identity: this waypoint's. */
  readonly identities: Identities;
  readonly telemetry: Telemetry;
  /** What policies on trial would have done; decisions that count are in the access log. */
  readonly dryRunLog: Logger;
  /** What peers have left of their budgets. */
  readonly peers: PeerBook;
  /** Tunnels to backends. */
  readonly pool: HbonePool;
  /** Open connections: entered before policy is asked, so that a change of it finds them. */
  readonly live: Set<Live>;
  readonly random: Random;
  readonly randomUint32: RandomUint32;
  /** Looks a host name up with the pod's own resolver; never rejects, null for none. */
  readonly resolve: (hostname: string, prefer: "ipv4" | "ipv6") => Promise<Ip | null>;
}

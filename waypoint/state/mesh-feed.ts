// The subscription to the mesh: policies for waypoints and all addresses, applied as they come. Policies are asked
// for first and sent first, so that no service is served before the policies that came with it.
//
// An Envoy waypoint would subscribe to listeners, routes, clusters and endpoints instead; istiod would derive those
// from the same tables for nodes that ask for them.
import type { Clock } from "#lib/base/clock.ts";
import { connectionSettings } from "#lib/grpc/control-plane.ts";
import type { TableOp } from "#lib/model/table-op.ts";
import type { MeshTables } from "#lib/model/tables.ts";
import type { WaypointPolicies } from "#lib/model/waypoint-policy.ts";
import type { Logger } from "#lib/obs/log.ts";
import { DeltaClient } from "#lib/xds/delta-client.ts";
import { FirstSync } from "#lib/xds/first-sync.ts";
import { proxyNode } from "#lib/xds/proxy-node.ts";
import { ADDRESS_TYPE, WAYPOINT_POLICY_TYPE } from "#lib/xds/type-urls.ts";
import type { XdsCounters } from "#lib/xds/xds-counters.ts";
import type { Config } from "../config.ts";

export interface MeshFeedOptions {
  readonly config: Config;
  readonly tables: MeshTables;
  readonly policies: WaypointPolicies;
  readonly counters: XdsCounters;
  /** Addresses changed. */
  readonly onAddresses: () => void;
  /** Policies changed: open connections are to be asked about again. */
  readonly onPolicies: () => void;
  readonly log: Logger;
  readonly clock: Clock;
}

/** Resources applied in one turn of the loop that also moves bytes: a few milliseconds. */
const CHUNK = 256;

/** One stream to istiod, reopened for ever. State is kept while disconnected. */
export class MeshFeed {
  readonly #client: DeltaClient;
  readonly #firstSync = new FirstSync(WAYPOINT_POLICY_TYPE, ADDRESS_TYPE);
  readonly #options: MeshFeedOptions;

  constructor(options: MeshFeedOptions) {
    const { config, tables, policies, counters, log, clock } = options;
    this.#options = options;
    this.#client = new DeltaClient({
      ...connectionSettings(config.xds, config),
      node: proxyNode("waypoint", config),
      types: [
        {
          typeUrl: WAYPOINT_POLICY_TYPE,
          apply: (update) => {
            const rejected = policies.apply(update);
            this.#tellUnchecked(update.resources.map(({ name }) => name));
            options.onPolicies();
            return rejected;
          },
        },
        {
          typeUrl: ADDRESS_TYPE,
          chunkSize: CHUNK,
          apply: (update) => {
            const ops = [
              ...update.resources.map(
                ({ name, bytes }): TableOp => ({ op: "address", name, bytes }),
              ),
              ...update.removed.map((name): TableOp => ({ op: "remove-address", name })),
            ];
            const rejected = tables.apply(ops);
            options.onAddresses();
            return rejected;
          },
        },
      ],
      onConnected: () => log.info({ address: config.xds.address }, "xds connected"),
      onTerminated: (reason) => counters.terminated(reason),
      onResponse: (event) => {
        counters.received(event.typeUrl, event.resourceBytes);
        this.#firstSync.answered(event);
      },
      log,
      clock,
    });
  }

  /** Resolves once both types were acknowledged. */
  synced(): Promise<void> {
    return this.#firstSync.done;
  }

  /** Resolves when `signal` aborts. */
  run(signal: AbortSignal): Promise<void> {
    return this.#client.run(signal);
  }

  #tellUnchecked(names: readonly string[]): void {
    const { policies, log } = this.#options;
    for (const policy of policies.all()) {
      const { authorization, unchecked } = policy;
      if (unchecked.length === 0 || !names.includes(authorization.key)) continue;
      if (!policies.concerns(policy)) continue;
      log.warn(
        { policy: authorization.key, action: authorization.action, unchecked },
        authorization.action === "Deny"
          ? "policy uses attributes this waypoint cannot check: its rules deny without looking at them"
          : "policy uses attributes this waypoint cannot check: rules with them allow nothing",
      );
    }
  }
}

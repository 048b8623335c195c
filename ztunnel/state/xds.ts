// The subscription to the mesh: addresses and policies in full, applied as they come.
import type { Clock } from "#lib/base/clock.ts";
import { connectionSettings } from "#lib/grpc/control-plane.ts";
import type { MeshTables } from "#lib/model/tables.ts";
import type { Logger } from "#lib/obs/log.ts";
import { DeltaClient, type ResponseEvent } from "#lib/xds/delta-client.ts";
import { FirstSync } from "#lib/xds/first-sync.ts";
import { proxyNode } from "#lib/xds/proxy-node.ts";
import type { TerminationReason } from "#lib/xds/reconnect.ts";
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from "#lib/xds/type-urls.ts";
import type { Config } from "../config.ts";
import { LocalIdentities, type IdentityChange } from "./local-identities.ts";
import { BATCH_RESOURCES, type TableFeed } from "./table-feed.ts";

export interface XdsOptions {
  readonly config: Config;
  readonly tables: MeshTables;
  readonly feed: TableFeed;
  /** Identities of this node's workloads that came or went with an update. */
  readonly onIdentities: (change: IdentityChange) => void;
  /** Addresses changed. */
  readonly onAddresses: () => void;
  readonly onResponse: (event: ResponseEvent) => void;
  readonly onTerminated: (reason: TerminationReason) => void;
  readonly log: Logger;
  readonly clock: Clock;
}

/** One stream to istiod, reopened for ever. State is kept while disconnected. */
export class Xds {
  readonly #client: DeltaClient;
  readonly #firstSync = new FirstSync(ADDRESS_TYPE, AUTHORIZATION_TYPE);
  readonly #identities = new LocalIdentities();

  constructor(options: XdsOptions) {
    const { config, feed, log, clock } = options;
    this.#client = new DeltaClient({
      ...connectionSettings(config.xds, config),
      node: proxyNode("ztunnel", config),
      types: [
        {
          typeUrl: ADDRESS_TYPE,
          chunkSize: BATCH_RESOURCES,
          apply: (update) => {
            const rejected = feed.apply("address", update);
            options.onAddresses();
            if (update.isLast) this.#followIdentities(options);
            return rejected;
          },
        },
        { typeUrl: AUTHORIZATION_TYPE, apply: (update) => feed.apply("policy", update) },
      ],
      onConnected: () => log.info({ address: config.xds.address }, "xds connected"),
      onTerminated: options.onTerminated,
      onResponse: (event) => {
        options.onResponse(event);
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

  #followIdentities({ config, tables, onIdentities }: XdsOptions): void {
    if (config.nodeName === "") return; // without a node every pod of the mesh would be local
    const change = this.#identities.update(tables.localWorkloads());
    if (change.appeared.length > 0 || change.gone.length > 0) onIdentities(change);
  }
}

// The client half of the delta protocol without its socket: what to ask for, what was accepted, how to answer.
import type { DeltaDiscoveryRequest, Node } from "../wire/gen/discovery.gen.ts";
import type { IncomingResponse } from "../grpc/delta-messages.ts";

/** A resource that was not accepted, and why; the text travels to the server's log. */
export interface Rejection {
  readonly name: string;
  readonly reason: string;
}

/** A server log line needs no more; one bad resource kind could otherwise echo the whole mesh back. */
const MAX_NACK_ENTRIES = 32;
const MAX_REASON_LENGTH = 512;

interface TypeState {
  /** Accepted names with the last version received. Survives streams. */
  readonly held: Map<string, string>;
  /** The next first request claims nothing, and the answer to it is the whole truth. */
  claimsNothing: boolean;
  /** True from such a request until its answer. */
  awaitsEverything: boolean;
}

/**
 * Subscribes to every type in full (wildcard). State lives across streams, so that a reconnect asks only
 * for what changed. A single object serves one stream at a time.
 */
export class DeltaClientState {
  readonly #types: ReadonlyMap<string, TypeState>;

  /** @param typeUrls in the order of subscription */
  constructor(typeUrls: readonly string[]) {
    this.#types = new Map(
      typeUrls.map((url) => [
        url,
        { held: new Map(), claimsNothing: false, awaitsEverything: false },
      ]),
    );
  }

  /** The first requests of a new stream, to be sent at once and in this order. */
  openStream(node: Node): DeltaDiscoveryRequest[] {
    return [...this.#types].map(([typeUrl, state]) => {
      state.awaitsEverything = state.claimsNothing && state.held.size > 0;
      state.claimsNothing = false;
      return {
        ...emptyRequest(typeUrl),
        node,
        initialResourceVersions: state.awaitsEverything ? new Map() : new Map(state.held),
      };
    });
  }

  /**
   * The server cannot read a request this large: claim no versions next time. Everything is sent again,
   * and what is then missing from the answer is removed here instead of by the server.
   */
  claimNothingOnce(): void {
    for (const state of this.#types.values()) state.claimsNothing = true;
  }

  /** Names to remove when applying `response`, its own list and those a full answer left out. */
  removalsOf(response: IncomingResponse): readonly string[] {
    const state = this.#types.get(response.typeUrl);
    if (state === undefined || !state.awaitsEverything) return response.removed;
    const present = new Set(response.resources.map((resource) => resource.name));
    return [...response.removed, ...[...state.held.keys()].filter((name) => !present.has(name))];
  }

  /**
   * Records a response that was applied, and returns its one answer: an ACK, or a NACK that names each
   * rejected resource. A rejected name keeps the version accepted before, if any.
   */
  applied(
    response: IncomingResponse,
    removed: readonly string[],
    rejections: readonly Rejection[],
  ): DeltaDiscoveryRequest {
    const state = this.#types.get(response.typeUrl);
    if (state !== undefined) {
      const rejected = new Set(rejections.map((rejection) => rejection.name));
      for (const { name, version } of response.resources)
        if (!rejected.has(name)) state.held.set(name, version);
      for (const name of removed) state.held.delete(name);
      state.awaitsEverything = false;
    }
    return {
      ...emptyRequest(response.typeUrl),
      responseNonce: response.nonce,
      // The code stays 0, as ztunnel's does: servers look at the presence of the detail.
      errorDetail:
        rejections.length === 0 ? undefined : { code: 0, message: nackMessage(rejections) },
    };
  }

  has(typeUrl: string): boolean {
    return this.#types.has(typeUrl);
  }

  /** What a reconnect would claim to hold. */
  held(typeUrl: string): ReadonlyMap<string, string> {
    return this.#types.get(typeUrl)?.held ?? new Map();
  }
}

function emptyRequest(typeUrl: string): DeltaDiscoveryRequest {
  return {
    node: undefined,
    typeUrl,
    resourceNamesSubscribe: [],
    resourceNamesUnsubscribe: [],
    initialResourceVersions: new Map(),
    responseNonce: "",
    errorDetail: undefined,
  };
}

/** `name: reason` joined by `; `, as ztunnel writes it. */
function nackMessage(rejections: readonly Rejection[]): string {
  const entries = rejections
    .slice(0, MAX_NACK_ENTRIES)
    .map(({ name, reason }) => `${name}: ${reason.slice(0, MAX_REASON_LENGTH)}`);
  const rest = rejections.length - entries.length;
  return (rest > 0 ? [...entries, `and ${rest} more`] : entries).join("; ");
}

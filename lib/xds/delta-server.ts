// The server half of the delta protocol for one stream, without its socket: fed requests and changed
// names, it says what to send. What was asked for and what is pending is all it remembers.
import type { OutgoingResource, OutgoingResponse } from "../grpc/delta-messages.ts";
import type { DeltaDiscoveryRequest } from "../wire/gen/discovery.gen.ts";
import { ADDRESS_TYPE, POLICY_TYPES } from "./type-urls.ts";

/** Live tables of resources by name. Read at the moment of sending, so that changes coalesce by themselves. */
export interface DeltaSource {
  /** `null` for a type that is not served. */
  table(typeUrl: string): ReadonlyMap<string, OutgoingResource> | null;
  /** Names for a key that is no name itself (`<network>/<ip>`); empty when unknown. */
  lookup(typeUrl: string, key: string): readonly string[];
  /** Names that an on-demand client gets without asking: the workloads of its node. */
  local(typeUrl: string, nodeName: string): readonly string[];
}

/** What a request meant. The runner logs and counts; `flush` then sends what became due. */
export type Received =
  | { readonly kind: "subscribed"; readonly typeUrl: string }
  | { readonly kind: "ack"; readonly typeUrl: string }
  | { readonly kind: "nack"; readonly typeUrl: string; readonly message: string }
  | {
      readonly kind: "ignored";
      readonly typeUrl: string;
      readonly why: "stale-nonce" | "unknown-type";
    }
  /** The stream must end with `RESOURCE_EXHAUSTED`. */
  | { readonly kind: "too-many-names"; readonly typeUrl: string };

export interface SubscriptionStatus {
  readonly typeUrl: string;
  readonly wildcard: boolean;
  readonly names: number;
  readonly sentNonce: string;
  readonly ackedNonce: string;
  readonly nacks: number;
}

interface Subscription {
  wildcard: boolean;
  /** Keys asked for and names sent for them. Empty on a wildcard stream, whose names are those of the table. */
  readonly names: Set<string>;
  /** Set until the first answer: what the client says it holds. */
  claimed: ReadonlyMap<string, string> | null;
  /** Asked for by name since the last answer: each is answered, if only as removed. */
  readonly asked: Set<string>;
  /** Changed since the last answer. Bounded by the number of names there are. */
  readonly changed: Set<string>;
  sentNonce: string;
  ackedNonce: string;
  nacks: number;
}

/** A client names what it uses on one node; a million is a mistake or an attack. */
const MAX_SUBSCRIBED_NAMES = 1_000_000;
const EVERYTHING = "*";

export class DeltaServerStream {
  readonly #source: DeltaSource;
  readonly #subscriptions = new Map<string, Subscription>();
  /** Metadata `NODE_NAME` of the client: decides its local workloads. */
  nodeName = "";

  constructor(source: DeltaSource) {
    this.#source = source;
  }

  receive(request: DeltaDiscoveryRequest): Received {
    const { typeUrl } = request;
    if (this.#source.table(typeUrl) === null)
      return { kind: "ignored", typeUrl, why: "unknown-type" };
    const known = this.#subscriptions.get(typeUrl);
    // A first request counts as such even with a nonce: it may be left over from an earlier stream.
    const received = known === undefined ? this.#first(request) : this.#further(known, request);
    const names = this.#subscriptions.get(typeUrl)?.names.size ?? 0;
    return names > MAX_SUBSCRIBED_NAMES ? { kind: "too-many-names", typeUrl } : received;
  }

  /** Notes changed or removed names of a type, for the next `flush`. */
  changed(typeUrl: string, names: Iterable<string>): void {
    const subscription = this.#subscriptions.get(typeUrl);
    // Before its first answer a stream needs no changes: the answer is made from the table as it is then.
    if (subscription === undefined || subscription.claimed !== null) return;
    for (const name of names)
      if (subscription.wildcard || subscription.names.has(name)) subscription.changed.add(name);
  }

  /** True when the stream has everything so far, so that bytes made for all such streams fit it too. */
  isInStep(typeUrl: string): boolean {
    const s = this.#subscriptions.get(typeUrl);
    return s !== undefined && s.wildcard && s.claimed === null && isEmpty(s);
  }

  /** True when `flush` would return something. */
  hasDue(): boolean {
    return this.#some((s) => s.claimed !== null || !isEmpty(s));
  }

  /** At most how many resources `flush` would return. */
  countDue(): number {
    let count = 0;
    for (const [typeUrl, s] of this.#subscriptions) {
      count += s.changed.size + s.asked.size;
      if (s.claimed !== null) count += this.#source.table(typeUrl)?.size ?? 0;
    }
    return count;
  }

  hasFirstAnswerDue(): boolean {
    return this.#some((s) => s.claimed !== null);
  }

  isSubscribed(typeUrl: string): boolean {
    return this.#subscriptions.has(typeUrl);
  }

  /** True when the first answer to this subscription would be the whole table. */
  wantsEverything(typeUrl: string): boolean {
    const s = this.#subscriptions.get(typeUrl);
    return s !== undefined && s.wildcard && s.claimed?.size === 0 && s.asked.size === 0;
  }

  /** Records bytes that were sent past `flush`. */
  sent(typeUrl: string, nonce: string): void {
    const subscription = this.#subscriptions.get(typeUrl);
    if (subscription === undefined) return;
    subscription.sentNonce = nonce;
    subscription.claimed = null;
  }

  /**
   * Takes everything due, in an order that never leaves a workload without a policy it names: new
   * policies, then addresses, then policies that are gone. Types of no such tie follow.
   * @param nonce a new one for each response
   */
  flush(nonce: () => string, systemVersion: string): OutgoingResponse[] {
    const policies = [...POLICY_TYPES].map((url) => this.#take(url));
    const addresses = this.#take(ADDRESS_TYPE);
    const others = [...this.#subscriptions.keys()]
      .filter((url) => !POLICY_TYPES.has(url) && url !== ADDRESS_TYPE)
      .map((url) => this.#take(url));
    const parts = policies.map((draft) => split(draft, addresses));
    const before = parts.map(([first]) => first);
    const after = parts.map(([, last]) => last);
    return [...before, addresses, ...after, ...others]
      .filter((draft) => draft !== null)
      .map((draft) => {
        const response = { ...draft, nonce: nonce(), systemVersion };
        this.sent(draft.typeUrl, response.nonce);
        return response;
      });
  }

  status(): SubscriptionStatus[] {
    return [...this.#subscriptions].map(([typeUrl, s]) => ({
      typeUrl,
      wildcard: s.wildcard,
      names: s.names.size,
      sentNonce: s.sentNonce,
      ackedNonce: s.ackedNonce,
      nacks: s.nacks,
    }));
  }

  #some(test: (s: Subscription) => boolean): boolean {
    for (const s of this.#subscriptions.values()) if (test(s)) return true;
    return false;
  }

  #first(request: DeltaDiscoveryRequest): Received {
    const { typeUrl, initialResourceVersions: claimed } = request;
    const names = new Set([...request.resourceNamesSubscribe, ...claimed.keys()]);
    for (const name of request.resourceNamesUnsubscribe) names.delete(name);
    const wildcard = names.delete(EVERYTHING) || request.resourceNamesSubscribe.length === 0;
    if (wildcard) names.clear();
    this.#subscriptions.set(typeUrl, {
      wildcard,
      names,
      claimed,
      asked: new Set(),
      changed: new Set(),
      sentNonce: "",
      ackedNonce: "",
      nacks: 0,
    });
    return { kind: "subscribed", typeUrl };
  }

  #further(s: Subscription, request: DeltaDiscoveryRequest): Received {
    const { typeUrl, responseNonce: nonce, errorDetail } = request;
    if (errorDetail !== undefined) {
      // Presence is what counts; ztunnel leaves the code 0. Nothing is sent again until it changes.
      s.nacks++;
      return { kind: "nack", typeUrl, message: errorDetail.message };
    }
    if (nonce !== "" && nonce !== s.sentNonce)
      return { kind: "ignored", typeUrl, why: "stale-nonce" };
    if (nonce !== "") s.ackedNonce = nonce;
    const before = s.asked.size;
    for (const name of request.resourceNamesSubscribe) subscribe(s, name);
    for (const name of request.resourceNamesUnsubscribe) unsubscribe(s, name);
    const isChange = s.asked.size > before || s.claimed !== null;
    return { kind: isChange ? "subscribed" : "ack", typeUrl };
  }

  #take(typeUrl: string): Draft | null {
    const s = this.#subscriptions.get(typeUrl);
    const table = this.#source.table(typeUrl);
    if (s === undefined || table === null) return null;
    const claimed = s.claimed;
    if (claimed === null && isEmpty(s)) return null;
    const draft: Draft = { typeUrl, resources: [], removed: [] };
    if (claimed !== null) this.#answerFirst(s, claimed, table, draft);
    for (const name of s.changed) {
      const resource = table.get(name);
      if (resource === undefined) draft.removed.push(name);
      else draft.resources.push(resource);
    }
    const sent = new Set(s.changed);
    for (const key of s.asked) if (!sent.has(key)) this.#answerKey(s, key, table, draft, sent);
    s.changed.clear();
    s.asked.clear();
    return draft;
  }

  /** Everything (or the node's own) minus what the client holds unchanged, and what it holds in vain. */
  #answerFirst(
    s: Subscription,
    claimed: ReadonlyMap<string, string>,
    table: ReadonlyMap<string, OutgoingResource>,
    draft: Draft,
  ): void {
    const offer = (resource: OutgoingResource): void => {
      const isHeld = resource.version !== "" && claimed.get(resource.name) === resource.version;
      if (!isHeld) draft.resources.push(resource);
    };
    if (s.wildcard) {
      for (const resource of table.values()) offer(resource);
      for (const name of claimed.keys()) if (!table.has(name)) draft.removed.push(name);
      return;
    }
    const done = new Set<string>();
    for (const name of this.#source.local(draft.typeUrl, this.nodeName)) s.names.add(name);
    for (const key of Array.from(s.names)) {
      // answering may add names
      const resource = table.get(key);
      if (resource === undefined) this.#answerKey(s, key, table, draft, done);
      else if (!done.has(key)) {
        done.add(key);
        offer(resource);
      }
    }
  }

  /**
   * One key asked for by name. A key that is an alias (`<network>/<ip>`) is answered with the resources
   * it stands for, and with itself as a name: ztunnel wakes only the waiter of exactly that name.
   */
  #answerKey(
    s: Subscription,
    key: string,
    table: ReadonlyMap<string, OutgoingResource>,
    draft: Draft,
    done: Set<string>,
  ): void {
    const exact = table.get(key);
    // A service brings its members along.
    const names = new Set(this.#source.lookup(draft.typeUrl, key));
    if (exact !== undefined) names.add(key);
    const found = [...names].map((name) => table.get(name)).filter((r) => r !== undefined);
    const first = found[0];
    if (first === undefined) {
      draft.removed.push(key);
      return;
    }
    for (const resource of found) {
      if (!s.wildcard) s.names.add(resource.name);
      if (done.has(resource.name)) continue;
      done.add(resource.name);
      draft.resources.push(exact === undefined ? { ...resource, aliases: [key] } : resource);
    }
    if (exact === undefined) draft.resources.push({ ...first, name: key });
  }
}

interface Draft {
  readonly typeUrl: string;
  readonly resources: OutgoingResource[];
  readonly removed: string[];
}

function subscribe(s: Subscription, name: string): void {
  if (name === EVERYTHING) {
    if (s.wildcard) return;
    s.wildcard = true;
    s.claimed = new Map();
    s.names.clear();
    return;
  }
  if (!s.wildcard) s.names.add(name);
  s.asked.add(name);
}

function unsubscribe(s: Subscription, name: string): void {
  if (name === EVERYTHING) s.wildcard = false;
  s.names.delete(name);
  s.asked.delete(name);
  s.changed.delete(name);
}

function isEmpty(s: Subscription): boolean {
  return s.changed.size === 0 && s.asked.size === 0;
}

/** Policies before the addresses that name them, and those to be removed after. */
function split(policies: Draft | null, addresses: Draft | null): [Draft | null, Draft | null] {
  if (policies === null || addresses === null || policies.removed.length === 0)
    return [policies, null];
  const { typeUrl, resources, removed } = policies;
  const after = { typeUrl, resources: [], removed };
  return resources.length === 0 ? [null, after] : [{ typeUrl, resources, removed: [] }, after];
}

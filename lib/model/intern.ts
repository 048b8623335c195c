// Sharing of equal values between decoded resources: a mesh of 100 000 pods has few namespaces,
// accounts, nodes and port maps, so each record costs little more than its own name and address.
import type { GatewayAddress, Locality, PortMap } from "./workload.ts";

/** Entries per pool. Beyond it the pool starts anew: held values stay valid and merely stop being shared. */
const MAX_ENTRIES = 65_536;

/** Equal keys give the same value. Bounded; forgetting is harmless. */
class Pool<T> {
  readonly #values = new Map<string, T>();

  find(key: string): T | undefined {
    return this.#values.get(key);
  }

  add(key: string, value: T): T {
    if (this.#values.size >= MAX_ENTRIES) this.#values.clear();
    this.#values.set(key, value);
    return value;
  }
}

/** What the resources of one table share. */
export class DecodePools {
  readonly localities = new Pool<Locality>();
  readonly gateways = new Pool<GatewayAddress>();
  readonly services = new Pool<ReadonlyMap<string, PortMap>>();
  readonly policyNames = new Pool<readonly string[]>();
  readonly #strings = new Pool<string>();

  /** The one copy of this text: equal texts come back identical by reference. */
  text(text: string): string {
    return text === "" ? "" : (this.#strings.find(text) ?? this.#strings.add(text, text));
  }
}

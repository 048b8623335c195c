// Policies attached to waypoints by targetRefs: which of them a waypoint asks about a connection. They travel as a
// resource type of our own, so that no ztunnel ever applies them (lib/wire/proto/waypoint.proto).
import { Policy as PolicyMessage, type Target as TargetMessage } from "../wire/gen/waypoint.gen.ts";
import type { Authorization } from "./authorization.ts";
import { authorizationFromMessage } from "./decode-authorization.ts";
import { decodeMessage } from "./decode-parts.ts";
import { ModelError } from "./errors.ts";
import { policySet, type PolicySet } from "./rbac.ts";
import type { Rejection } from "./table-op.ts";

export type PolicyTarget =
  /** Everything that passes this waypoint; `namespace/name`. */
  | { readonly kind: "gateway"; readonly key: string }
  /** Everything that passes any waypoint of this class. */
  | { readonly kind: "gatewayClass"; readonly name: string }
  /** What is addressed to this service; `namespace/hostname`. */
  | { readonly kind: "service"; readonly key: string };

export interface WaypointPolicy {
  readonly authorization: Authorization;
  readonly targets: readonly PolicyTarget[];
  /** Attributes that only HTTP has: an ALLOW rule with one is left out, a DENY rule matches without looking at it. */
  readonly unchecked: readonly string[];
}

/** @throws {ModelError} as `decodeAuthorization`, and for a target of a kind that is not known */
export function decodeWaypointPolicy(key: string, bytes: Uint8Array): WaypointPolicy {
  const m = decodeMessage("Policy", (b) => PolicyMessage.decode(b), bytes);
  if (m.authorization === undefined)
    throw new ModelError("MISSING_FIELD", "Policy has no authorization");
  return {
    authorization: authorizationFromMessage(key, m.authorization),
    targets: m.targets.map(targetFrom),
    unchecked: m.unchecked,
  };
}

function targetFrom({ kind }: TargetMessage, at: number): PolicyTarget {
  switch (kind?.$case) {
    case "gateway":
      return { kind: "gateway", key: kind.value };
    case "gatewayClass":
      return { kind: "gatewayClass", name: kind.value };
    case "service":
      return { kind: "service", key: kind.value };
    case undefined:
      throw new ModelError("MISSING_FIELD", `targets[${at}] is of no known kind`);
    default:
      return kind satisfies never;
  }
}

/** Whose policies are looked for. */
export interface WaypointName {
  /** `namespace/name` of the Gateway. */
  readonly gateway: string;
  readonly gatewayClass: string;
}

/** Every policy for waypoints; answers for one of them. */
export class WaypointPolicies {
  readonly #self: WaypointName;
  readonly #byKey = new Map<string, WaypointPolicy>();
  /** Sets by service, the empty name for what is addressed to a pod. Emptied by every change. */
  readonly #sets = new Map<string, PolicySet>();
  #generation = 0;

  constructor(self: WaypointName) {
    this.#self = self;
  }

  get size(): number {
    return this.#byKey.size;
  }

  /** Rises with every change: open connections are asked about again when it moved. */
  get generation(): number {
    return this.#generation;
  }

  all(): MapIterator<WaypointPolicy> {
    return this.#byKey.values();
  }

  /** Takes what it can, and names what it cannot; what was known under a refused name stays. */
  apply(update: {
    readonly resources: readonly { readonly name: string; readonly bytes: Uint8Array }[];
    readonly removed: readonly string[];
  }): Rejection[] {
    const rejected: Rejection[] = [];
    for (const { name, bytes } of update.resources)
      try {
        this.#byKey.set(name, decodeWaypointPolicy(name, bytes));
      } catch (error) {
        if (!(error instanceof ModelError)) throw error;
        rejected.push({ name, reason: error.detail });
      }
    for (const name of update.removed) this.#byKey.delete(name);
    this.#sets.clear();
    this.#generation++;
    return rejected;
  }

  /** Whether it is one of this waypoint's, for some of its traffic. */
  concerns(policy: WaypointPolicy): boolean {
    return policy.targets.some((target) => target.kind === "service" || this.#isForAll(target));
  }

  /**
   * Hot path: runs per connection; a set is built once per service and policy change.
   * @param service  `namespace/hostname`; null for what is addressed to a pod, which no service's policy reaches
   */
  setFor(service: string | null): PolicySet {
    const name = service ?? "";
    const known = this.#sets.get(name);
    if (known !== undefined) return known;
    const found: Authorization[] = [];
    for (const { authorization, targets } of this.#byKey.values())
      if (targets.some((t) => (t.kind === "service" ? t.key === service : this.#isForAll(t))))
        found.push(authorization);
    const made = policySet(found);
    this.#sets.set(name, made);
    return made;
  }

  #isForAll(target: Exclude<PolicyTarget, { kind: "service" }>): boolean {
    return target.kind === "gateway"
      ? target.key === this.#self.gateway
      : target.name === this.#self.gatewayClass;
  }
}

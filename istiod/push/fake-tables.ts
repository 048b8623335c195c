// Mesh tables in memory, for tests of the pusher: resources are put and removed by hand.
import { createHash } from "node:crypto";
import { Address } from "#lib/wire/gen/workload.gen.ts";
import { Authorization } from "#lib/wire/gen/authorization.gen.ts";
import { encodeWaypointPolicy } from "../translate/encode.ts";
import type { EncodedResource, MeshDelta, MeshTables } from "../translate/mesh.ts";

export class FakeTables implements MeshTables {
  readonly #addresses = new Map<string, EncodedResource>();
  readonly #authorizations = new Map<string, EncodedResource>();
  readonly #waypointPolicies = new Map<string, EncodedResource>();
  readonly #members = new Map<string, Set<string>>();
  /** Alias → names, for `lookup`. */
  readonly aliases = new Map<string, string[]>();

  addresses(): ReadonlyMap<string, EncodedResource> {
    return this.#addresses;
  }

  authorizations(): ReadonlyMap<string, EncodedResource> {
    return this.#authorizations;
  }

  waypointPolicies(): ReadonlyMap<string, EncodedResource> {
    return this.#waypointPolicies;
  }

  workloadsOfService(service: string): ReadonlySet<string> {
    return this.#members.get(service) ?? new Set();
  }

  servicesOfWorkload(): readonly string[] {
    return [];
  }

  lookup(name: string): readonly string[] {
    if (this.#addresses.has(name)) return [name, ...this.workloadsOfService(name)];
    return this.aliases.get(name) ?? [];
  }

  workload(uid: string, policies: string[] = [], services: string[] = []): MeshDelta {
    const namespace = uid.split("/")[3] ?? "";
    const value = {
      uid,
      name: uid.split("/")[4] ?? uid,
      namespace,
      authorizationPolicies: policies,
      services: new Map(services.map((service) => [service, { ports: [] }])),
    };
    const bytes = Address.encode(Address.create({ type: { $case: "workload", value } })).finish();
    this.#addresses.set(uid, encoded(uid, bytes));
    for (const service of services)
      this.#members.set(service, (this.#members.get(service) ?? new Set()).add(uid));
    return delta({ addresses: { updated: [uid], removed: [] } });
  }

  service(key: string): MeshDelta {
    const [namespace = "", hostname = ""] = key.split("/");
    const bytes = Address.encode(
      Address.create({
        type: { $case: "service", value: { name: hostname, namespace, hostname } },
      }),
    ).finish();
    this.#addresses.set(key, encoded(key, bytes));
    return delta({ addresses: { updated: [key], removed: [] }, services: [key] });
  }

  policy(key: string): MeshDelta {
    const [namespace = "", name = ""] = key.split("/");
    const bytes = Authorization.encode(Authorization.create({ namespace, name })).finish();
    this.#authorizations.set(key, encoded(key, bytes));
    return delta({ authorizations: { updated: [key], removed: [] } });
  }

  waypointPolicy(key: string): MeshDelta {
    const [namespace = "", name = ""] = key.split("/");
    this.#waypointPolicies.set(
      key,
      encodeWaypointPolicy({ authorization: { namespace, name }, targets: [], unchecked: [] }),
    );
    return delta({ waypointPolicies: { updated: [key], removed: [] } });
  }

  removeAddress(name: string): MeshDelta {
    this.#addresses.delete(name);
    return delta({ addresses: { updated: [], removed: [name] } });
  }

  removePolicy(name: string): MeshDelta {
    this.#authorizations.delete(name);
    return delta({ authorizations: { updated: [], removed: [name] } });
  }
}

export function delta(part: Partial<MeshDelta>): MeshDelta {
  return {
    addresses: { updated: [], removed: [] },
    authorizations: { updated: [], removed: [] },
    waypointPolicies: { updated: [], removed: [] },
    services: [],
    ...part,
  };
}

function encoded(name: string, bytes: Uint8Array): EncodedResource {
  return { name, version: createHash("sha1").update(bytes).digest("hex").slice(0, 16), bytes };
}

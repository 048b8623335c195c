// One change, encoded at most once per type, for all the streams that are up to date.
import type { OutgoingResource } from "#lib/grpc/delta-messages.ts";
import { ADDRESS_TYPE, AUTHORIZATION_TYPE, WAYPOINT_POLICY_TYPE } from "#lib/xds/type-urls.ts";
import type { MeshDelta, MeshTables, ResourceDelta } from "../translate/mesh.ts";
import { encodeResponse, type EncodedPush } from "./encoded-push.ts";

/** Names to send again or to remove; which of the two, the table says when it is sent. */
export interface ChangedNames {
  readonly addresses: ReadonlySet<string>;
  readonly policies: ReadonlySet<string>;
  readonly waypointPolicies: ReadonlySet<string>;
}

/**
 * Names a delta touches. A changed service brings its workloads: clients drop endpoints of a service
 * when it goes or its health policy changes, and learn them again only when they are sent again.
 */
export function changedNames(delta: MeshDelta, tables: MeshTables): ChangedNames {
  const addresses = new Set([...delta.addresses.updated, ...delta.addresses.removed]);
  for (const service of delta.services)
    for (const workload of tables.workloadsOfService(service)) addresses.add(workload);
  return {
    addresses,
    policies: namesOf(delta.authorizations),
    waypointPolicies: namesOf(delta.waypointPolicies),
  };
}

function namesOf({ updated, removed }: ResourceDelta): ReadonlySet<string> {
  return new Set([...updated, ...removed]);
}

export function mergeNames(a: ChangedNames, b: ChangedNames): ChangedNames {
  return {
    addresses: a.addresses.union(b.addresses),
    policies: a.policies.union(b.policies),
    waypointPolicies: a.waypointPolicies.union(b.waypointPolicies),
  };
}

/**
 * The responses for a change, in sending order: new policies, addresses, policies that are gone, so that
 * no workload is ever without a policy it names.
 */
export function encodeChange(
  changed: ChangedNames,
  tables: MeshTables,
  version: string,
  nonce: () => string,
): EncodedPush[] {
  const policies = partition(changed.policies, tables.authorizations());
  const addresses = partition(changed.addresses, tables.addresses());
  const forWaypoints = partition(changed.waypointPolicies, tables.waypointPolicies());
  const drafts = [
    { typeUrl: WAYPOINT_POLICY_TYPE, resources: forWaypoints.present, removed: [] },
    { typeUrl: AUTHORIZATION_TYPE, resources: policies.present, removed: [] },
    { typeUrl: ADDRESS_TYPE, resources: addresses.present, removed: addresses.gone },
    { typeUrl: AUTHORIZATION_TYPE, resources: [], removed: policies.gone },
    { typeUrl: WAYPOINT_POLICY_TYPE, resources: [], removed: forWaypoints.gone },
  ];
  return drafts
    .filter((draft) => draft.resources.length + draft.removed.length > 0)
    .flatMap((draft) =>
      encodeResponse({ ...draft, nonce: nonce(), systemVersion: version }, nonce),
    );
}

function partition(
  names: ReadonlySet<string>,
  table: ReadonlyMap<string, OutgoingResource>,
): { present: OutgoingResource[]; gone: string[] } {
  const present: OutgoingResource[] = [];
  const gone: string[] = [];
  for (const name of names) {
    const resource = table.get(name);
    if (resource === undefined) gone.push(name);
    else present.push(resource);
  }
  return { present, gone };
}

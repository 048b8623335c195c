// PeerAuthentication → DENY policies that ask for mutual TLS, and which of them a workload names.
// Source: istio pilot/pkg/serviceregistry/ambient/policies.go; where its branches contradict each
// other, the intended table is followed (README, "Peer authentication").
import type { Labels } from "#lib/kube/labels.ts";
import { selects } from "#lib/kube/labels.ts";
import { Action, Match, type Rules, Scope } from "#lib/wire/gen/authorization.gen.ts";
import type { Index, Reads } from "./collection.ts";
import { encodeAuthorization } from "./encode.ts";
import type { EncodedResource } from "./mesh.ts";
import { olderFirst, type PeerAuthentication } from "./objects.ts";
import { PRESENCE } from "./policies.ts";

const STATIC_STRICT = "istio_converted_static_strict";
const CONVERTED_PREFIX = "converted_peer_authentication_";

export interface PeerAuthenticationTables {
  readonly byNamespace: Index<PeerAuthentication>;
  readonly rootNamespace: string;
}

/** "Deny when no authenticated peer": exists as soon as any PeerAuthentication does. */
export function staticStrict(rootNamespace: string): EncodedResource {
  return encodeAuthorization({
    name: STATIC_STRICT,
    namespace: rootNamespace,
    scope: Scope.WORKLOAD_SELECTOR,
    action: Action.DENY,
    groups: [{ rules: [clause({ notPrincipals: [PRESENCE] })] }],
  });
}

/** The policy a port exemption or port requirement needs; `null` when ports change nothing. */
export function convertedPolicy(
  policy: PeerAuthentication,
  tables: PeerAuthenticationTables,
  reads: Reads,
): EncodedResource | null {
  if (!isWorkloadLevel(policy, tables)) return null;
  const isStrict = effective(policy, policy.namespace, tables, reads);
  const ports = policy.ports.filter((p) => p.isStrict !== isStrict).map((p) => p.port);
  if (ports.length === 0) return null;
  const groups = isStrict
    ? [
        {
          rules: [
            clause({ notPrincipals: [PRESENCE] }),
            ...ports.map((port) => clause({ notDestinationPorts: [port] })),
          ],
        },
      ]
    : ports.map((port) => ({
        rules: [clause({ notPrincipals: [PRESENCE], destinationPorts: [port] })],
      }));
  return encodeAuthorization({
    name: `${CONVERTED_PREFIX}${policy.name}`,
    namespace: policy.namespace,
    scope: Scope.WORKLOAD_SELECTOR,
    action: Action.DENY,
    groups,
  });
}

/** Names of the policies above that this workload is under: one or none, as any matching DENY wins. */
export function peerPolicies(
  namespace: string,
  labels: Labels,
  tables: PeerAuthenticationTables,
  reads: Reads,
): readonly string[] {
  const selecting =
    namespace === tables.rootNamespace
      ? []
      : reads.index(
          tables.byNamespace,
          namespace,
          (p) => p.selector !== null && selects(p.selector, labels),
        );
  const own = selecting.sort(olderFirst)[0] ?? null;
  const isStrict = effective(own, namespace, tables, reads);
  if (own?.ports.some((p) => p.isStrict !== isStrict) === true)
    return [`${namespace}/${CONVERTED_PREFIX}${own.name}`];
  return isStrict ? [`${tables.rootNamespace}/${STATIC_STRICT}`] : [];
}

/** STRICT or not, ports aside: workload, else namespace, else mesh, else permissive. */
function effective(
  own: PeerAuthentication | null,
  namespace: string,
  tables: PeerAuthenticationTables,
  reads: Reads,
): boolean {
  if (own !== null && own.mode !== "UNSET") return own.mode === "STRICT";
  for (const level of [namespace, tables.rootNamespace]) {
    const found = reads.index(tables.byNamespace, level, (p) => p.selector === null);
    const mode = found.sort(olderFirst)[0]?.mode ?? "UNSET";
    if (mode !== "UNSET") return mode === "STRICT";
  }
  return false;
}

/** Selector policies of the root namespace are ignored. */
function isWorkloadLevel(policy: PeerAuthentication, tables: PeerAuthenticationTables): boolean {
  return policy.selector !== null && policy.namespace !== tables.rootNamespace;
}

function clause(match: Partial<Match>): Rules {
  return { matches: [Match.create(match)] };
}

// AuthorizationPolicy with targetRefs → what a waypoint of ours enforces of it. HTTP attributes are not checked yet, and
// are taken on the closed side: an ALLOW rule that uses one allows nothing, a DENY rule denies without looking at it.
// Source: istio pilot/pkg/model/policyattachment.go; pilot/pkg/security/authz (rules on a TCP chain).
import type { TargetRef } from "#lib/kube/objects.ts";
import { Action, Scope } from "#lib/wire/gen/authorization.gen.ts";
import type { Target } from "#lib/wire/gen/waypoint.gen.ts";
import type { Index, Reads } from "./collection.ts";
import type { TranslateConfig } from "./config.ts";
import { encodeWaypointPolicy } from "./encode.ts";
import type { EncodedResource } from "./mesh.ts";
import type { AuthorizationPolicy } from "./objects.ts";
import { Translation } from "./policies.ts";
import type { ServiceRecord } from "./services.ts";
import { parseGoBool } from "./waypoints.ts";

export interface TargetTables {
  readonly config: TranslateConfig;
  /** By `Service/…` and `ServiceEntry/…`. */
  readonly recordsBySource: Index<ServiceRecord>;
}

/**
 * `null` while nothing that it targets exists, and for AUDIT, which blocks nothing. Whether a service is bound to a
 * waypoint plays no part: the policy is there before the service is, so that it is never served without.
 */
export function waypointPolicy(
  policy: AuthorizationPolicy,
  tables: TargetTables,
  reads: Reads,
): EncodedResource | null {
  const targets = policy.targets.flatMap((ref) => targetsOf(policy, ref, tables, reads));
  if (targets.length === 0) return null;
  // Without a provider to ask, what CUSTOM picks out is denied, as Istio does for a provider it does not know.
  const action = policy.action === "CUSTOM" ? "DENY" : policy.action;
  if (action !== "ALLOW" && action !== "DENY") return null;
  const translation = new Translation(policy.namespace, action, "denied");
  const groups = policy.rules.flatMap((rule) => translation.rule(rule));
  const provider = policy.action === "CUSTOM" ? ["provider"] : [];
  return encodeWaypointPolicy({
    authorization: {
      name: policy.name,
      namespace: policy.namespace,
      scope: Scope.WORKLOAD_SELECTOR,
      action: action === "DENY" ? Action.DENY : Action.ALLOW,
      groups,
      dryRun: parseGoBool(policy.dryRun) === true,
    },
    targets,
    unchecked: [...provider, ...translation.leftOut],
  });
}

/** A ServiceEntry stands for each of its hosts. What may not be targeted is for the status to tell. */
function targetsOf(
  policy: AuthorizationPolicy,
  ref: TargetRef,
  { config, recordsBySource }: TargetTables,
  reads: Reads,
): Target[] {
  if (ref.namespace !== undefined && ref.namespace !== policy.namespace) return [];
  const key = `${policy.namespace}/${ref.name}`;
  switch (`${ref.group ?? ""}/${ref.kind}`) {
    case "/Service":
    case "core/Service":
    case "networking.istio.io/ServiceEntry": {
      const records = reads.index(recordsBySource, `${ref.kind}/${key}`);
      const services = records.map(({ membership }) => membership.key).sort();
      return services.map((value) => ({ kind: { $case: "service", value } }));
    }
    case "gateway.networking.k8s.io/Gateway":
      return [{ kind: { $case: "gateway", value: key } }];
    case "gateway.networking.k8s.io/GatewayClass":
      return policy.namespace === config.rootNamespace
        ? [{ kind: { $case: "gatewayClass", value: ref.name } }]
        : [];
    default:
      return [];
  }
}

// Status conditions as values: what each object's author should read, whoever writes it.
// Source: istio pilot/pkg/serviceregistry/ambient/{status.go,policies.go}, pilot/pkg/model/service.go.
import type { Resource } from "#lib/kube/cluster.ts";
import { type Condition, RESOURCES, type TargetRef } from "#lib/kube/objects.ts";
import { Service_Visibility } from "#lib/wire/gen/workload.gen.ts";
import { type Collection, Derived, type Index, type Reads } from "./collection.ts";
import type { TranslateConfig } from "./config.ts";
import type {
  AuthorizationPolicy,
  Gateway,
  GatewayClass,
  Service,
  ServiceEntry,
  WorkloadEntry,
} from "./objects.ts";
import type { PolicyOutcome } from "./policies.ts";
import type { ServiceRecord } from "./services.ts";
import { type Resolution, type ServiceWaypoint, UNBOUND } from "./waypoints.ts";
import type { PublishedWorkload } from "./workload-tables.ts";

export interface ObjectConditions {
  readonly resource: Resource;
  readonly namespace: string;
  readonly name: string;
  /** One per writer, so that each prunes only its own conditions. */
  readonly fieldManager: string;
  /** Sorted by type; may be empty: then whatever this writer wrote before goes. */
  readonly conditions: readonly Condition[];
}

export interface StatusTables {
  readonly config: TranslateConfig;
  /** By `Service/…` and `ServiceEntry/…`. */
  readonly recordsBySource: Index<ServiceRecord>;
  readonly services: Collection<Service>;
  readonly serviceEntries: Collection<ServiceEntry>;
  readonly policies: Collection<AuthorizationPolicy>;
  readonly outcomes: Collection<PolicyOutcome>;
  readonly gateways: Collection<Gateway>;
  readonly gatewayClasses: Collection<GatewayClass>;
}

/** Keyed `Kind/namespace/name`; one for every object that is seen, also without anything to say. */
export function serviceConditionTable(tables: StatusTables): Derived<Service, ObjectConditions> {
  return Derived.each("service-conditions", tables.services, (service, reads) => {
    const key = `Service/${service.key}`;
    const [record] = reads.index(tables.recordsBySource, key);
    const conditions = record === undefined ? [] : boundService(record.waypoint);
    return [[key, ofService(RESOURCES.services, service, conditions)]];
  });
}

export function serviceEntryConditionTable(
  tables: StatusTables,
): Derived<ServiceEntry, ObjectConditions> {
  return Derived.each("service-entry-conditions", tables.serviceEntries, (entry, reads) => {
    const key = `ServiceEntry/${entry.key}`;
    const records = reads.index(tables.recordsBySource, key);
    const conditions = entryConditions(entry, records, tables.config);
    return [[key, ofService(RESOURCES.serviceEntries, entry, conditions)]];
  });
}

export function entryConditionTable(
  entries: Collection<WorkloadEntry>,
  workloads: Collection<PublishedWorkload>,
  uidOf: (entry: WorkloadEntry) => string,
): Derived<WorkloadEntry, ObjectConditions> {
  return Derived.each<WorkloadEntry, ObjectConditions>(
    "entry-conditions",
    entries,
    (entry, reads) => [
      [
        `WorkloadEntry/${entry.key}`,
        {
          resource: RESOURCES.workloadEntries,
          namespace: entry.namespace,
          name: entry.name,
          fieldManager: "istio-ambient-workloadentry",
          conditions: observed(
            entry,
            bound(reads.key(workloads, uidOf(entry))?.waypoint ?? UNBOUND),
          ),
        },
      ],
    ],
  );
}

export function policyConditionTable(
  tables: StatusTables,
): Derived<AuthorizationPolicy, ObjectConditions> {
  return Derived.each("policy-conditions", tables.policies, (policy, reads) => [
    [`AuthorizationPolicy/${policy.key}`, policyConditions(policy, tables, reads)],
  ]);
}

/** The same waypoint and visibility apply to every host of an entry. */
function entryConditions(
  entry: ServiceEntry,
  records: readonly ServiceRecord[],
  config: TranslateConfig,
): Condition[] {
  const [record] = records;
  if (record === undefined) return [];
  const conditions = [...boundService(record.waypoint), ...missing(entry, record, records)];
  if (config.serviceEntryVisibility !== null) {
    const isPrivate = record.visibility === Service_Visibility.NAMESPACE;
    const reason = isPrivate ? "Namespace" : "Public";
    conditions.push(condition("istio.io/VisibilityApplied", true, reason, `Visible: ${reason}`));
  }
  return conditions.sort((a, b) => (a.type < b.type ? -1 : 1));
}

function ofService(
  resource: Resource,
  object: Service | ServiceEntry,
  conditions: readonly Condition[],
): ObjectConditions {
  const { namespace, name } = object;
  const fieldManager = "istio-ambient-service";
  return { resource, namespace, name, fieldManager, conditions: observed(object, conditions) };
}

/** A generation of 0 is none: nobody counts the changes of this object. */
function observed(
  of: { readonly generation: number },
  conditions: readonly Condition[],
): readonly Condition[] {
  return of.generation === 0
    ? conditions
    : conditions.map((c) => ({ ...c, observedGeneration: of.generation }));
}

function boundService(waypoint: ServiceWaypoint): Condition[] {
  const [own] = bound(waypoint.primary);
  if (own === undefined || waypoint.primary.kind !== "bound") return own === undefined ? [] : [own];
  const ingress = waypoint.ingressLabelled
    ? `; ingress traffic ${waypoint.ingress ? "passes" : "does not pass"} it`
    : "";
  const canary = waypoint.canaryError === null ? "" : `; canary: ${waypoint.canaryError.message}`;
  return [{ ...own, message: `${own.message ?? ""}${ingress}${canary}` }];
}

function bound(resolution: Resolution): Condition[] {
  switch (resolution.kind) {
    case "none":
      return [];
    case "bound":
      return [
        condition(
          "istio.io/WaypointBound",
          true,
          "WaypointAccepted",
          `Attached to waypoint ${resolution.waypoint.key}`,
        ),
      ];
    case "error": {
      const { reason, message } = resolution.error;
      return [condition("istio.io/WaypointBound", false, reason, message)];
    }
    default:
      return resolution satisfies never;
  }
}

function missing(
  entry: ServiceEntry,
  record: ServiceRecord,
  records: readonly ServiceRecord[],
): Condition[] {
  if (record.waypoint.primary.kind === "bound") return [];
  if (records.some((r) => r.membership.hostname.startsWith("*")))
    return [
      condition(
        "istio.io/WaypointMissing",
        true,
        "NoWaypointForWildcardService",
        "A wildcard host needs a waypoint to resolve it; none is bound",
      ),
    ];
  if (entry.annotations["istio.io/connect-strategy"] === "RACE_FIRST_TCP_CONNECT")
    return [
      condition(
        "istio.io/WaypointMissing",
        true,
        "NoWaypointForRacingConnectStrategy",
        "The connect strategy RACE_FIRST_TCP_CONNECT needs a waypoint; none is bound",
      ),
    ];
  return [];
}

function policyConditions(
  policy: AuthorizationPolicy,
  tables: StatusTables,
  reads: Reads,
): ObjectConditions {
  const verdict = reads.key(tables.outcomes, policy.key)?.verdict ?? null;
  const forZtunnel = policy.targets.length === 0;
  const conditions = forZtunnel
    ? verdict === null
      ? []
      : [condition("ZtunnelAccepted", verdict.accepted, verdict.reason, verdict.message)]
    : [targetsCondition(policy, tables, reads)];
  return {
    resource: RESOURCES.authorizationPolicies,
    namespace: policy.namespace,
    name: policy.name,
    fieldManager: forZtunnel ? "istio-ambient-ztunnel-policy" : "istio-ambient-waypoint-policy",
    conditions: observed(policy, conditions),
  };
}

interface TargetOutcome {
  readonly reason: "Accepted" | "TargetNotFound" | "AncestorNotBound" | "Invalid";
  readonly message: string;
}

function targetsCondition(
  policy: AuthorizationPolicy,
  tables: StatusTables,
  reads: Reads,
): Condition {
  const outcomes = policy.targets.map((ref) => targetOutcome(policy, ref, tables, reads));
  const unbound = outcomes.filter((o) => o.reason !== "Accepted");
  const [only] = outcomes;
  if (outcomes.length === 1 && only !== undefined)
    return condition("WaypointAccepted", only.reason === "Accepted", only.reason, only.message);
  if (unbound.length === 0)
    return condition("WaypointAccepted", true, "Accepted", "Bound to every target");
  const isPartial = unbound.length < outcomes.length;
  const message = unbound.map((o) => o.message).join("; ");
  return condition(
    "WaypointAccepted",
    isPartial,
    isPartial ? "PartiallyInvalid" : "Invalid",
    message,
  );
}

function targetOutcome(
  policy: AuthorizationPolicy,
  ref: TargetRef,
  tables: StatusTables,
  reads: Reads,
): TargetOutcome {
  const kind = `${ref.group ?? ""}/${ref.kind}`;
  const key = `${policy.namespace}/${ref.name}`;
  const shown = `${ref.kind} ${ref.name}`;
  if (ref.namespace !== undefined && ref.namespace !== policy.namespace)
    return { reason: "Invalid", message: `${shown}: a target must be in the policy's namespace` };
  switch (kind) {
    case "/Service":
    case "core/Service":
    case "networking.istio.io/ServiceEntry": {
      const [record] = reads.index(tables.recordsBySource, `${ref.kind}/${key}`);
      if (record === undefined)
        return { reason: "TargetNotFound", message: `${shown} does not exist` };
      return record.waypoint.primary.kind === "bound"
        ? accepted(`Bound to waypoint ${record.waypoint.primary.waypoint.key}`)
        : { reason: "AncestorNotBound", message: `${shown} is not bound to a waypoint` };
    }
    case "gateway.networking.k8s.io/Gateway":
      return reads.key(tables.gateways, key) === undefined
        ? { reason: "TargetNotFound", message: `${shown} does not exist` }
        : accepted(`Bound to ${key}`);
    case "gateway.networking.k8s.io/GatewayClass": {
      if (policy.namespace !== tables.config.rootNamespace)
        return {
          reason: "Invalid",
          message: `${shown}: a class can be targeted from namespace ${tables.config.rootNamespace} only`,
        };
      const found = reads.key(tables.gatewayClasses, ref.name);
      const isMesh =
        ref.name === "istio-waypoint" || found?.controller === "istio.io/mesh-controller";
      if (isMesh) return accepted(`Bound to every waypoint of class ${ref.name}`);
      return found === undefined
        ? { reason: "TargetNotFound", message: `${shown} does not exist` }
        : { reason: "Invalid", message: `${shown} is no class of waypoints` };
    }
    default:
      return {
        reason: "Invalid",
        message: `${shown}: a policy cannot target group ${ref.group ?? ""}`,
      };
  }
}

function accepted(message: string): TargetOutcome {
  return { reason: "Accepted", message };
}

function condition(type: string, isTrue: boolean, reason: string, message: string): Condition {
  return { type, status: isTrue ? "True" : "False", reason, message };
}

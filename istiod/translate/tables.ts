// The tables and their order. Each one depends only on those made before it, so one pass from first
// to last brings all of them up to date with a batch of changes.
import { formatCidr } from "#lib/net/cidr.ts";
import { ipFromBytes } from "#lib/net/ip.ts";
import { Action, Match, Scope } from "#lib/wire/gen/authorization.gen.ts";
import type { NetworkAddress } from "#lib/wire/gen/workload.gen.ts";
import {
  type Collection,
  Derived,
  type Fault,
  type Index,
  type Reads,
  Union,
} from "./collection.ts";
import type { TranslateConfig } from "./config.ts";
import { addressKey, encodeAuthorization, sameResource } from "./encode.ts";
import { Inputs } from "./inputs.ts";
import type { EncodedResource, ObjectChange } from "./mesh.ts";
import { compare, type Pod } from "./objects.ts";
import { convertedPolicy, staticStrict } from "./peer-authentication.ts";
import { translatePolicy } from "./policies.ts";
import {
  compileVisibility,
  encodedService,
  entryRecords,
  publish,
  type PublishedService,
  serviceRecord,
  type ServiceRecord,
} from "./services.ts";
import {
  entryConditionTable,
  type ObjectConditions,
  policyConditionTable,
  serviceConditionTable,
  serviceEntryConditionTable,
} from "./status.ts";
import { waypointPolicy } from "./waypoint-policies.ts";
import { GATEWAY_NAME, type Waypoint, waypointOf, type WaypointTables } from "./waypoints.ts";
import {
  entryUid,
  entryWorkload,
  serviceEntryWorkloads,
  sliceWorkloads,
} from "./endpoint-workloads.ts";
import { podWorkload } from "./pod-workloads.ts";
import {
  type Attachment,
  NETWORK,
  type PublishedWorkload,
  type WaypointAllow,
  type WorkloadTables,
} from "./workload-tables.ts";

const NETWORK_LABEL = "topology.istio.io/network";
const ALL = "all";

interface Step {
  refresh(): void;
  settle(): void;
  takeFaults?(): readonly Fault[];
}

export class Tables {
  readonly inputs: Inputs;
  readonly published: Collection<PublishedService>;
  readonly publishedByAddress: Index<PublishedService>;
  readonly services: Collection<EncodedResource>;
  readonly workloads: Collection<PublishedWorkload>;
  readonly workloadsByService: Index<PublishedWorkload>;
  readonly workloadsByAddress: Index<PublishedWorkload>;
  readonly authorizations: Collection<EncodedResource>;
  readonly waypointPolicies: Collection<EncodedResource>;
  readonly conditions: Collection<ObjectConditions>;
  /** In order: an entry reads only what stands before it. */
  readonly #steps: Step[] = [];
  readonly #config: TranslateConfig;

  /** @throws {KubeError} `INVALID` for a selector of `config` that cannot be evaluated */
  constructor(config: TranslateConfig) {
    this.#config = config;
    const inputs = new Inputs(config);
    this.inputs = inputs;

    const visibilityOf = compileVisibility(config.serviceEntryVisibility);

    const network = this.#step(
      Derived.each("network", inputs.namespaces, ({ name, labels }) =>
        name === config.systemNamespace ? [[NETWORK, labels[NETWORK_LABEL] ?? ""] as const] : [],
      ),
    );
    const networkName = (reads: Reads): string => reads.key(network, NETWORK) ?? "";

    const waypoints = this.#step(
      Derived.each("waypoints", inputs.gateways, (gateway, reads) => {
        const gatewayClass = reads.key(inputs.gatewayClasses, gateway.className);
        const waypoint = waypointOf(gateway, gatewayClass, networkName(reads));
        return waypoint === null ? [] : [[gateway.key, waypoint] as const];
      }),
    );
    const forWaypoints: WaypointTables = { namespaces: inputs.namespaces, waypoints };

    const kubernetes = this.#step(
      Derived.each("service-records", inputs.services, (service, reads) => {
        const record = serviceRecord(service, networkName(reads), config, forWaypoints, reads);
        return record === null ? [] : [[`Service/${service.key}`, record] as const];
      }),
    );
    const entries = this.#step(
      Derived.each("entry-records", inputs.serviceEntries, (entry, reads) =>
        entryRecords(entry, networkName(reads), visibilityOf, forWaypoints, reads).map(
          (r) => [`ServiceEntry/${entry.key}/${r.membership.hostname}`, r] as const,
        ),
      ),
    );
    const records = this.#step(new Union<ServiceRecord>("records", [kubernetes, entries]));
    const byHostname = records.index((r) => [r.membership.hostname]);
    const recordsBySource = records.index((r) => [sourceName(r.membership)]);

    const published = this.#step(
      Derived.groups("published", byHostname, (_hostname, members) =>
        publish(members).map((s) => [s.membership.key, s] as const),
      ),
    );
    this.published = published;
    this.publishedByAddress = published.index(serviceAliases);
    this.services = this.#step(
      Derived.each(
        "services",
        published,
        (service) => [[service.membership.key, encodedService(service)] as const],
        sameResource,
      ),
    );
    const members = this.#step(
      Derived.each("members", published, ({ membership }) => [
        [membership.key, membership] as const,
      ]),
    );
    const membersByNamespace = members.index((m) => [m.namespace]);
    const membersBySource = members.index((m) => [sourceName(m)]);
    const waypointOfService = this.#step(
      Derived.each("waypoint-of-service", published, ({ membership, waypoint }) =>
        waypoint.primary.kind === "bound"
          ? [[membership.key, waypoint.primary.waypoint.key] as const]
          : [],
      ),
    );

    const outcomes = this.#step(
      Derived.each("policies", inputs.authorizationPolicies, (policy) => [
        [policy.key, translatePolicy(policy, config)] as const,
      ]),
    );
    this.waypointPolicies = this.#step(
      Derived.each(
        "policies-of-waypoints",
        inputs.authorizationPolicies,
        (policy, reads) => named(waypointPolicy(policy, { config, recordsBySource }, reads)),
        sameResource,
      ),
    );
    const attachments = this.#step(
      Derived.each("attachments", outcomes, ({ resource }, reads, key) => {
        const policy = reads.key(inputs.authorizationPolicies, key);
        if (resource === null || policy === undefined || policy.selector === null) return [];
        const { namespace, selector } = policy;
        return [[key, { key, namespace, selector } satisfies Attachment] as const];
      }),
    );
    const attachmentsByNamespace = attachments.index((a) => [a.namespace]);
    const byNamespace = inputs.peerAuthentications.index((p) => [p.namespace]);
    const any = inputs.peerAuthentications.index(() => [ALL]);
    const forPeers = { byNamespace, rootNamespace: config.rootNamespace };
    const gatewayPods = inputs.pods.index(gatewayOf);
    const allows = this.#step(
      Derived.each("waypoint-allows", waypoints, (waypoint, reads) => {
        if (!config.autoAllowWaypointPolicy) return [];
        const pods = reads.index(gatewayPods, waypoint.key);
        return pods.length === 0
          ? []
          : [[waypoint.key, allowWaypoint(waypoint, pods, config)] as const];
      }),
    );
    this.authorizations = this.#step(
      new Union<EncodedResource>("authorizations", [
        this.#step(
          Derived.each(
            "authorization-policies",
            outcomes,
            ({ resource }) => named(resource),
            sameResource,
          ),
        ),
        this.#step(
          Derived.groups(
            "static-strict",
            any,
            () => named(staticStrict(config.rootNamespace)),
            sameResource,
          ),
        ),
        this.#step(
          Derived.each(
            "converted",
            inputs.peerAuthentications,
            (policy, reads) => named(convertedPolicy(policy, forPeers, reads)),
            sameResource,
          ),
        ),
        this.#step(
          Derived.each(
            "waypoint-policies",
            allows,
            ({ resource }) => named(resource),
            sameResource,
          ),
        ),
      ]),
    );

    const forWorkloads: WorkloadTables = {
      ...forWaypoints,
      ...forPeers,
      config,
      network,
      nodes: inputs.nodes,
      members,
      membersByNamespace,
      membersBySource,
      slicesByPod: inputs.endpointSlices.index((s) => s.endpoints.flatMap((e) => e.pod ?? [])),
      attachmentsByNamespace,
      waypointAllows: allows,
      waypointOfService,
    };
    const entryWorkloads = this.#step(
      Derived.each(
        "workload-entries",
        inputs.workloadEntries,
        (o, r) => entryWorkload(o, r, forWorkloads),
        sameWorkload,
      ),
    );
    this.workloads = this.#step(
      new Union<PublishedWorkload>("workloads", [
        this.#step(
          Derived.each(
            "pods",
            inputs.pods,
            (o, r) => podWorkload(o, r, forWorkloads),
            sameWorkload,
          ),
        ),
        entryWorkloads,
        this.#step(
          Derived.each(
            "service-entry-workloads",
            inputs.serviceEntries,
            (o, r) => serviceEntryWorkloads(o, r, forWorkloads),
            sameWorkload,
          ),
        ),
        this.#step(
          Derived.each(
            "slice-workloads",
            inputs.endpointSlices,
            (o, r) => sliceWorkloads(o, r, forWorkloads),
            sameWorkload,
          ),
        ),
      ]),
    );
    this.workloadsByService = this.workloads.index((w) => w.services);
    this.workloadsByAddress = this.workloads.index((w) => w.addresses);

    const forStatus = {
      config,
      recordsBySource,
      services: inputs.services,
      serviceEntries: inputs.serviceEntries,
      policies: inputs.authorizationPolicies,
      outcomes,
      gateways: inputs.gateways,
      gatewayClasses: inputs.gatewayClasses,
    };
    this.conditions = this.#step(
      new Union<ObjectConditions>("conditions", [
        this.#step(serviceConditionTable(forStatus)),
        this.#step(serviceEntryConditionTable(forStatus)),
        this.#step(
          entryConditionTable(inputs.workloadEntries, entryWorkloads, (e) => entryUid(e, config)),
        ),
        this.#step(policyConditionTable(forStatus)),
      ]),
    );
  }

  get config(): TranslateConfig {
    return this.#config;
  }

  apply(changes: Iterable<ObjectChange>): void {
    this.inputs.apply(changes);
    this.#refresh();
  }

  /** Derives everything anew from the objects of `other`. */
  adopt(other: Tables): void {
    this.inputs.adopt(other.inputs);
    this.#refresh();
  }

  takeFaults(): readonly Fault[] {
    return this.#steps.flatMap((step) => step.takeFaults?.() ?? []);
  }

  /** Ends the round: what changed in it is no longer known. */
  settle(): void {
    this.inputs.settle();
    for (const step of this.#steps) step.settle();
  }

  #refresh(): void {
    for (const step of this.#steps) step.refresh();
  }

  #step<S extends Step>(step: S): S {
    this.#steps.push(step);
    return step;
  }
}

/** `network/ip` or `network/ip/length` of each address. */
export function serviceAliases(service: PublishedService): string[] {
  return service.addresses.map(({ network, address, length }: NetworkAddress) =>
    addressKey(
      network,
      length === undefined ? ipFromBytes(address) : formatCidr({ bytes: address, bits: length }),
    ),
  );
}

/** Lets exactly the accounts that a waypoint's Pods run under in. */
function allowWaypoint(
  waypoint: Waypoint,
  pods: readonly Pod[],
  config: TranslateConfig,
): WaypointAllow {
  const { namespace, name } = waypoint;
  const accounts = [...new Set(pods.map((p) => p.serviceAccount))].sort(compare);
  const principals = accounts.map((account) => ({
    matchType: {
      $case: "exact" as const,
      value: `${config.trustDomain}/ns/${namespace}/sa/${account}`,
    },
  }));
  const resource = encodeAuthorization({
    name: `istio_allow_waypoint_${namespace}_${name}`,
    namespace,
    scope: Scope.WORKLOAD_SELECTOR,
    action: Action.ALLOW,
    groups: [{ rules: [{ matches: [Match.create({ principals })] }] }],
  });
  return { key: waypoint.key, policy: resource.name, resource };
}

function gatewayOf(pod: Pod): string[] {
  const name = pod.labels[GATEWAY_NAME];
  return name === undefined ? [] : [`${pod.namespace}/${name}`];
}

function sourceName(of: { readonly source: string; readonly sourceKey: string }): string {
  return `${of.source}/${of.sourceKey}`;
}

function named(resource: EncodedResource | null): (readonly [string, EncodedResource])[] {
  return resource === null ? [] : [[resource.name, resource]];
}

/** A waypoint's own fields beyond its address show in conditions only. */
function sameWorkload(a: PublishedWorkload, b: PublishedWorkload): boolean {
  return (
    sameResource(a.resource, b.resource) &&
    a.waypoint.kind === b.waypoint.kind &&
    JSON.stringify(a.waypoint) === JSON.stringify(b.waypoint)
  );
}

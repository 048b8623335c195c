// What a mesh node knows: every workload, service and policy, kept current from the control plane's changes and
// asked for every connection. One replica per thread; values are replaced whole and may be held by readers.
import type { Ip } from "../net/ip.ts";
import type { Authorization } from "./authorization.ts";
import { decodeAuthorization } from "./decode-authorization.ts";
import { decodeAddress } from "./decode.ts";
import { ModelError } from "./errors.ts";
import { DecodePools } from "./intern.ts";
import { PolicyIndex } from "./policy-index.ts";
import type { PolicySet } from "./rbac.ts";
import { ServiceIndex, type Candidates, type ClientNamespace } from "./service-index.ts";
import { serviceKey, type Service } from "./service.ts";
import type { Rejection, TableOp } from "./table-op.ts";
import { WorkloadIndex, type PodName } from "./workload-index.ts";
import type { GatewayAddress, Workload } from "./workload.ts";

export type Found =
  | { readonly kind: "workload"; readonly workload: Workload }
  | { readonly kind: "service"; readonly service: Service };

export interface TablesOptions {
  /** NODE_NAME: whose pods `localWorkload` finds. Absent or null: the pods of all nodes. */
  readonly node?: string | null;
}

export class MeshTables {
  readonly #workloads: WorkloadIndex;
  readonly #services = new ServiceIndex();
  readonly #policies = new PolicyIndex();
  readonly #pools = new DecodePools();

  constructor(options: TablesOptions = {}) {
    this.#workloads = new WorkloadIndex(options.node ?? null);
  }

  // --- changes

  /**
   * Applies changes in order. A malformed resource is left out and reported; the rest still applies, and what was
   * known under its name stays.
   */
  apply(ops: readonly TableOp[]): Rejection[] {
    const rejected: Rejection[] = [];
    for (const op of ops) {
      try {
        this.#applyOne(op);
      } catch (error) {
        if (!(error instanceof ModelError)) throw error;
        rejected.push({ name: op.name, reason: error.detail });
      }
    }
    return rejected;
  }

  putWorkload(w: Workload): void {
    this.#removeWorkload(w.uid);
    this.#workloads.add(w);
    this.#services.addEndpoint(w);
  }

  putService(service: Service): void {
    this.#services.put(service);
  }

  putPolicy(policy: Authorization): void {
    this.#policies.put(policy);
  }

  // --- workloads

  get workloadCount(): number {
    return this.#workloads.size;
  }

  workloads(): MapIterator<Workload> {
    return this.#workloads.all();
  }

  workloadByUid(uid: string): Workload | null {
    return this.#workloads.byUid(uid);
  }

  /** Of several workloads at one address: a pod with HBONE, a pod, HBONE, others. Host-network pods have none. */
  findWorkload(network: string, ip: Ip): Workload | null {
    return this.#workloads.byAddress(network, ip);
  }

  /** The record of a pod of this node, by exact name, namespace and service account. */
  localWorkload(pod: PodName): Workload | null {
    return this.#workloads.onNode(pod);
  }

  /** All workloads of this node, e.g. to fetch their certificates ahead of use. */
  localWorkloads(): Generator<Workload> {
    return this.#workloads.allOnNode();
  }

  // --- services

  get serviceCount(): number {
    return this.#services.size;
  }

  services(): Generator<Service> {
    return this.#services.all();
  }

  findService(namespace: string, hostname: string): Service | null {
    return this.#services.byKey(`${namespace}/${hostname}`);
  }

  /** @param key  `namespace/hostname` */
  findServiceByKey(key: string): Service | null {
    return this.#services.byKey(key);
  }

  /**
   * The service a client means by a host name: of its own namespace, canonical, the first.
   * @param preferred  PREFERED_SERVICE_NAMESPACE, for DNS: ranks between canonical and first
   */
  findServiceByHostname(
    hostname: string,
    from: ClientNamespace,
    preferred?: string,
  ): Service | null {
    return this.#services.byHostname(hostname, from, preferred);
  }

  /** The service a client means by a virtual address; ranges are tried when no exact VIP is visible. */
  serviceAt(network: string, ip: Ip, from: ClientNamespace): Service | null {
    return this.#services.byVip(network, ip, from);
  }

  /** Every visible service with exactly this VIP. */
  servicesAt(network: string, ip: Ip, from: ClientNamespace): Service[] {
    return this.#services.allByVip(network, ip, from);
  }

  /**
   * The workloads that serve `service`, those its health policy let in. An endpoint's own port map is
   * `workload.services.get(serviceKey(service))`.
   */
  endpoints(service: Service): ReadonlySet<Workload> {
    return this.#services.endpoints(serviceKey(service));
  }

  /** Candidates kept by `pickEndpoint`; gone as soon as the service or an endpoint of it changes. */
  candidates(serviceKey: string, caller: string): Candidates | null {
    return this.#services.candidates(serviceKey, caller);
  }

  rememberCandidates(serviceKey: string, caller: string, candidates: Candidates): void {
    this.#services.rememberCandidates(serviceKey, caller, candidates);
  }

  /** Endpoints whose service is not known yet, by `namespace/hostname`. */
  stagedServices(): Generator<readonly [key: string, endpoints: ReadonlySet<Workload>]> {
    return this.#services.staged();
  }

  // --- addresses and references

  /** What an address is: a workload first, then a service. (Choosing an upstream asks the other way round.) */
  findAddress(network: string, ip: Ip, from: ClientNamespace): Found | null {
    const workload = this.#workloads.byAddress(network, ip);
    if (workload !== null) return { kind: "workload", workload };
    const service = this.#services.byVip(network, ip, from);
    return service === null ? null : { kind: "service", service };
  }

  /** What a waypoint or gateway reference names: a service first, then a workload. */
  resolveGateway(ref: GatewayAddress, from: ClientNamespace): Found | null {
    const service =
      ref.kind === "hostname"
        ? this.findService(ref.namespace, ref.hostname)
        : this.#services.byVip(ref.network, ref.ip, from);
    if (service !== null) return { kind: "service", service };
    const workload =
      ref.kind === "hostname"
        ? this.#workloads.byHostname(ref.namespace, ref.hostname)
        : this.#workloads.byAddress(ref.network, ref.ip);
    return workload === null ? null : { kind: "workload", workload };
  }

  // --- policies

  get policyCount(): number {
    return this.#policies.size;
  }

  /** Rises with every policy change: then open connections are authorised again. */
  get policyGeneration(): number {
    return this.#policies.generation;
  }

  policies(): MapIterator<Authorization> {
    return this.#policies.all();
  }

  policyByKey(key: string): Authorization | null {
    return this.#policies.byKey(key);
  }

  /** Namespace, global and named policies. `unknown` lists names that are not known: skipped, the caller warns. */
  policiesFor(w: Workload): PolicySet {
    return this.#policies.policiesFor(w);
  }

  // --- private

  #applyOne(op: TableOp): void {
    switch (op.op) {
      case "address": {
        const found = decodeAddress(op.bytes, this.#pools);
        if (found.kind === "workload") this.putWorkload(found.workload);
        else this.putService(found.service);
        return;
      }
      case "remove-address":
        return this.#removeAddress(op.name);
      case "policy":
        return this.putPolicy(decodeAuthorization(op.name, op.bytes));
      case "remove-policy":
        return void this.#policies.remove(op.name);
      default:
        return op satisfies never;
    }
  }

  /** A resource name is a workload's uid, or else `namespace/hostname` of a service. Unknown names are harmless. */
  #removeAddress(name: string): void {
    if (this.#removeWorkload(name)) return;
    const slash = name.indexOf("/");
    if (slash < 0 || name.includes("/", slash + 1)) return;
    this.#services.remove(name);
  }

  #removeWorkload(uid: string): boolean {
    const before = this.#workloads.byUid(uid);
    if (before === null) return false;
    this.#services.removeEndpoint(before);
    this.#workloads.remove(before);
    return true;
  }
}

// A whole connection on paper: the source node's decision, then the destination's, with the same functions the data
// plane runs. Stage ids S1…D5 are those of `ambit explain`. L7 routing and policy of a waypoint are not known here.
import type { Random } from "../base/clock.ts";
import { formatSocketAddr, parseIp, type Ip, type SocketAddr } from "../net/ip.ts";
import type { SpiffeId } from "../net/spiffe.ts";
import { explainArrival, type Arrival } from "./explain-arrival.ts";
import { plaintextFixes, routeFixes } from "./explain-fixes.ts";
import { Trail } from "./explain-trail.ts";
import type { Explanation, ExplanationVerdict, Fix } from "./explanation.ts";
import { decideOutbound, type HboneDecision, type TcpDecision } from "./outbound.ts";
import { chooseIp, pickEndpoint, type Pick } from "./pick-endpoint.ts";
import { serviceKey, type Service } from "./service.ts";
import { serviceObject, workloadObject } from "./stage.ts";
import type { MeshTables } from "./tables.ts";
import { whyNone } from "./upstream.ts";
import { identityOf, type Workload } from "./workload.ts";

export interface ExplainRequest {
  readonly source: Workload;
  /** What the application would dial. */
  readonly destination: SocketAddr;
  readonly network: string;
  /** Ask as if the source had this identity. */
  readonly asIdentity?: SpiffeId;
  /** Draws waypoint and endpoint; default: always the first. */
  readonly random?: Random;
  readonly confidence?: Explanation["confidence"];
}

/** Stands for an address that only the connection itself would know. */
const NO_ADDRESS: Ip = parseIp("0.0.0.0");

export function explainConnection(tables: MeshTables, request: ExplainRequest): Explanation {
  return new Explainer(tables, request).explain();
}

class Explainer {
  readonly #tables: MeshTables;
  readonly #r: ExplainRequest;
  readonly #random: Random;
  readonly #trail = new Trail();

  constructor(tables: MeshTables, request: ExplainRequest) {
    this.#tables = tables;
    this.#r = request;
    this.#random = request.random ?? ((): number => 0);
  }

  explain(): Explanation {
    const { source, destination, network } = this.#r;
    const trail = this.#trail;
    const sourceIp = source.addresses[0] ?? NO_ADDRESS;
    const who = `${source.namespace}/${source.name}`;
    trail.hop("source", source, null, sourceIp);
    if (source.protocol !== "HBONE") {
      trail.stage(
        "S1",
        "pass",
        `${who} is not captured: plain TCP, no identity`,
        workloadObject(source),
      );
      return this.#uncaptured(sourceIp);
    }
    trail.stage("S1", "choose", `${who} is captured`, workloadObject(source));
    const request = { source, sourceIp, destination, network, random: this.#random };
    const decision = decideOutbound(this.#tables, request, trail.stages);
    switch (decision.kind) {
      case "reject":
        return this.#end("unroutable", routeFixes(decision));
      case "resolve": {
        const encrypted = decision.complete(NO_ADDRESS).kind === "hbone";
        trail.hop("endpoint", decision.destination, encrypted ? "HBONE" : "TCP", decision.hostname);
        trail.notes.push(`${decision.hostname} is resolved when the connection opens`);
        return this.#end(encrypted ? "allowed" : "plaintext");
      }
      case "tcp":
        return this.#tcp(decision);
      case "hbone":
        return decision.via === null
          ? this.#direct(decision, sourceIp)
          : this.#throughWaypoint(decision);
      default:
        return decision satisfies never;
    }
  }

  #tcp({ address, destination }: TcpDecision): Explanation {
    if (destination === null) {
      this.#trail.external(formatSocketAddr(address));
      return this.#end("plaintext");
    }
    this.#trail.hop("endpoint", destination, "TCP", formatSocketAddr(address));
    return this.#end("plaintext", plaintextFixes([destination]));
  }

  #direct({ destination: at, nextHop, authority }: HboneDecision, sourceIp: Ip): Explanation {
    const { source, asIdentity } = this.#r;
    const identity = asIdentity ?? identityOf(source);
    this.#trail.hop("endpoint", at, "HBONE", formatSocketAddr(nextHop));
    return this.#arrive({
      at,
      from: source,
      sourceIp,
      tunnel: { identity, authority },
      target: nextHop,
    });
  }

  /** Without capture the kernel's own service routing chooses an endpoint, and bytes travel as they are. */
  #uncaptured(sourceIp: Ip): Explanation {
    const { source, destination, network } = this.#r;
    const service = this.#tables.serviceAt(network, destination.ip, source.namespace);
    const found =
      service === null
        ? { workload: this.#tables.findWorkload(network, destination.ip), target: destination }
        : this.#endpointOf(service, source);
    if (found === null) return this.#noEndpoint("S4", service);
    const { workload: at, target } = found;
    if (at === null) {
      this.#trail.stage("S2", "pass", `${formatSocketAddr(destination)} is not known to the mesh`);
      this.#trail.external(formatSocketAddr(destination));
      return this.#end("plaintext", plaintextFixes([source]));
    }
    this.#trail.hop("endpoint", at, "TCP", formatSocketAddr(target));
    if (at.protocol !== "HBONE") return this.#end("plaintext", plaintextFixes([source, at]));
    return this.#arrive({ at, from: source, sourceIp, tunnel: null, target });
  }

  /** The waypoint ends the first tunnel and opens its own: the destination sees the waypoint, not the client. */
  #throughWaypoint({
    destination: waypoint,
    nextHop,
    service,
    upstream,
  }: HboneDecision): Explanation {
    const trail = this.#trail;
    trail.hop("waypoint", waypoint, "HBONE", formatSocketAddr(nextHop));
    trail.stage(
      "W1",
      "pass",
      "routes of the waypoint are not evaluated here: the service's own endpoints are assumed",
    );
    trail.stage("W2", "pass", "policies attached to the waypoint are not evaluated here");
    trail.notes.push(
      "the connection arrives from the waypoint, so L4 policies of the destination see the waypoint's identity",
    );
    const found =
      service === null
        ? { workload: upstream, target: this.#r.destination }
        : this.#endpointOf(service, waypoint);
    if (found === null || found.workload === null) return this.#noEndpoint("W1", service);
    const { workload: at, target } = found;
    const authority = formatSocketAddr(target);
    trail.hop("endpoint", at, at.protocol, authority);
    if (at.protocol === "TCP") return this.#end("plaintext", plaintextFixes([at]));
    const sourceIp = waypoint.addresses[0] ?? nextHop.ip;
    return this.#arrive({
      at,
      from: waypoint,
      sourceIp,
      tunnel: { identity: identityOf(waypoint), authority },
      target,
    });
  }

  /** The endpoint somebody else's balancing would choose; null after noting why there is none. */
  #endpointOf(service: Service, from: Workload): { workload: Workload; target: SocketAddr } | null {
    const { destination } = this.#r;
    const { port } = destination;
    const pick: Pick = pickEndpoint(this.#tables, {
      service,
      port,
      source: from,
      mode: "standard",
      random: this.#random,
    });
    if (pick.kind === "none") {
      this.#trail.notes.push(whyNone(service, port, pick.why));
      return null;
    }
    const chosen = chooseIp(pick.workload, destination.ip, service);
    if (chosen.kind === "hostname")
      this.#trail.notes.push(`${chosen.hostname} is resolved when the connection opens`);
    const ip = chosen.kind === "ip" ? chosen.ip : NO_ADDRESS;
    return { workload: pick.workload, target: { ip, port: pick.port } };
  }

  #noEndpoint(stage: "S4" | "W1", service: Service | null): Explanation {
    const what =
      service === null ? formatSocketAddr(this.#r.destination) : `service ${serviceKey(service)}`;
    const objects = service === null ? [] : [serviceObject(service)];
    this.#trail.stage(stage, "stop", `${what} has no endpoint for this connection`, ...objects);
    const reason = "no_healthy_upstream" as const;
    return this.#end("unroutable", routeFixes({ kind: "reject", reason, detail: what, service }));
  }

  #arrive(arrival: Arrival): Explanation {
    const { verdict, fixes } = explainArrival(this.#tables, this.#r.network, arrival, this.#trail);
    return this.#end(verdict, fixes);
  }

  #end(verdict: ExplanationVerdict, fixes: readonly Fix[] = []): Explanation {
    return this.#trail.end(verdict, this.#r.confidence ?? "snapshot", fixes);
  }
}

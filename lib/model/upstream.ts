// Test O8 of the outbound decision: which workload and port an original destination stands for.
import type { Random } from "../base/clock.ts";
import type { SocketAddr } from "../net/ip.ts";
import { pickEndpoint, type Pick } from "./pick-endpoint.ts";
import { serviceKey, type Service } from "./service.ts";
import type { MeshTables } from "./tables.ts";
import type { Workload } from "./workload.ts";

export type Upstream =
  | {
      readonly kind: "endpoint";
      readonly workload: Workload;
      readonly port: number;
      /** The service it was chosen through; null for a workload address. */
      readonly through: Service | null;
    }
  /** Nobody the mesh knows, or a service that balances nothing: the address as the application gave it. */
  | { readonly kind: "original"; readonly why: string }
  | { readonly kind: "failed"; readonly detail: string; readonly service: Service };

/** A visible service with that VIP first, then the workload at the address, both on the source's own network. */
export function chooseUpstream(
  tables: MeshTables,
  from: { readonly source: Workload; readonly destination: SocketAddr; readonly random: Random },
): Upstream {
  const { source, destination, random } = from;
  const { ip, port } = destination;
  const service = tables.serviceAt(source.network, ip, source.namespace);
  if (service === null) {
    const workload = tables.findWorkload(source.network, ip);
    if (workload === null) return { kind: "original", why: `${ip} is not known to the mesh` };
    return { kind: "endpoint", workload, port, through: null };
  }
  if (service.loadBalancing.mode === "Passthrough")
    return {
      kind: "original",
      why: `service ${serviceKey(service)} keeps the original destination`,
    };
  const pick = pickEndpoint(tables, { service, port, source, mode: "standard", random });
  // A service whose choice fails is never replaced by the address as it stands, not even when a workload has it too.
  if (pick.kind === "none")
    return { kind: "failed", detail: whyNone(service, port, pick.why), service };
  return { kind: "endpoint", workload: pick.workload, port: pick.port, through: service };
}

/** A failed choice in one sentence that names the service and what to look at. */
export function whyNone(
  service: Service,
  port: number,
  why: Extract<Pick, { kind: "none" }>["why"],
): string {
  const name = `service ${serviceKey(service)}`;
  switch (why) {
    case "no-port":
      return `${name} has no port ${port}; it has ${[...service.ports.keys()].join(", ") || "none"}`;
    case "no-endpoints":
      return `${name} has no healthy endpoint; check that its selector matches ready pods`;
    case "unreachable":
      return `${name} has endpoints, but none with an address that maps port ${port}`;
    case "locality":
      return `${name} only allows endpoints that match ${service.loadBalancing.preferences.join(", ")} of the client, and none does`;
    case "no-weight":
      return `${name} has only endpoints of capacity 0`;
    case "no-target-port":
      return `port ${port} of ${name} leads to no port of the chosen endpoint`;
    default:
      return why satisfies never;
  }
}

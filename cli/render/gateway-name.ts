// How istioctl names a waypoint in a table: the service behind the reference.
import type { DumpGateway, DumpService } from "../source/config-dump.ts";

/** `None` without a waypoint; `NA` for one whose service is unknown. */
export function gatewayName(
  gateway: DumpGateway | null,
  services: ReadonlyMap<string, DumpService>,
): string {
  if (gateway === null) return "None";
  return services.get(gateway.destination)?.name ?? "NA";
}

/** Services by everything a gateway reference may hold: `namespace/hostname` and each `network/ip`. */
export function gatewayIndex(services: readonly DumpService[]): ReadonlyMap<string, DumpService> {
  const index = new Map<string, DumpService>();
  for (const service of services) {
    index.set(`${service.namespace}/${service.hostname}`, service);
    for (const vip of service.vips) index.set(vip, service);
  }
  return index;
}

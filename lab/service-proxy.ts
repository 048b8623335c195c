// The lab's kube-proxy: service addresses reach ready endpoints from everywhere on a node, enrolled or
// not. One nftables table, replaced as a whole. `renderServiceProxy` is pure.
import type { EndpointSlice, Service } from "#lib/kube/objects.ts";

const TABLE = "inet lab-services";

interface Target {
  readonly ip: string;
  readonly port: number;
}

/** @param hasBridgeFilter whether traffic between two pods of one bridge passes conntrack on its way back */
export function renderServiceProxy(
  services: readonly Service[],
  slices: readonly EndpointSlice[],
  podCidrs: readonly string[],
  hasBridgeFilter: boolean,
): string {
  const rules: string[] = [];
  const refused: string[] = [];
  const hairpins: string[] = [];
  for (const service of services) {
    const ips = (service.spec?.clusterIPs ?? [service.spec?.clusterIP ?? ""]).filter(
      (ip) => ip !== "" && ip !== "None",
    );
    for (const ip of ips) {
      const v6 = ip.includes(":");
      const family = v6 ? "ip6" : "ip";
      for (const { name = "", port, protocol = "TCP" } of service.spec?.ports ?? []) {
        const match = `${family} daddr ${ip} ${protocol.toLowerCase()} dport ${port}`;
        const targets = targetsOf(service, slices, name, v6);
        if (targets.length === 0) refused.push(`${match} reject`);
        else rules.push(`${match} ${dnat(family, targets)}`);
        hairpins.push(
          ...targets.map(
            (t) => `${family} saddr ${t.ip} ${family} daddr ${t.ip} ct status dnat masquerade`,
          ),
        );
      }
    }
  }
  const local = podCidrs.map((cidr) => {
    const family = cidr.includes(":") ? "ip6" : "ip";
    return `${family} saddr ${cidr} ${family} daddr ${cidr} ct status dnat masquerade`;
  });
  const postrouting = [...new Set(hairpins), ...(hasBridgeFilter ? [] : local)];
  return `table ${TABLE} {}
delete table ${TABLE}
table ${TABLE} {
  chain services {
${indent(rules)}
  }
  chain prerouting { type nat hook prerouting priority dstnat; jump services; }
  chain output { type nat hook output priority -100; jump services; }
  chain postrouting {
    type nat hook postrouting priority srcnat;
${indent(postrouting)}
  }
  chain refused {
${indent(refused)}
  }
  chain forward { type filter hook forward priority filter; jump refused; }
  chain out { type filter hook output priority filter; jump refused; }
}
`;
}

const indent = (lines: readonly string[]): string => lines.map((line) => `    ${line}`).join("\n");

function targetsOf(
  service: Service,
  slices: readonly EndpointSlice[],
  portName: string,
  v6: boolean,
): Target[] {
  const { name, namespace } = service.metadata;
  const targets: Target[] = [];
  for (const slice of slices) {
    const { metadata, addressType, ports, endpoints } = slice;
    if (
      metadata.namespace !== namespace ||
      metadata.labels?.["kubernetes.io/service-name"] !== name
    )
      continue;
    if (addressType !== (v6 ? "IPv6" : "IPv4")) continue;
    const port = ports?.find((p) => (p.name ?? "") === portName)?.port;
    if (port === undefined) continue;
    for (const { addresses, conditions } of endpoints ?? [])
      if (conditions?.ready !== false) targets.push(...addresses.map((ip) => ({ ip, port })));
  }
  return targets;
}

/** Equal shares: one number for each target, drawn per connection. */
function dnat(family: "ip" | "ip6", targets: readonly Target[]): string {
  const choices = targets.map((t, i) => `${i} : ${t.ip} . ${t.port}`).join(", ");
  return `dnat ${family} to numgen random mod ${targets.length} map { ${choices} }`;
}

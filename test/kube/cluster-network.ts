// Addresses and routes of a test cluster. Nodes have the lab's; the control plane and the test program live in
// the sandbox's own namespace, which gets a port on the link.
import { writeFileSync } from "node:fs";
import {
  hasV4,
  hasV6,
  linkAddresses,
  withLinkPrefix,
  type IpFamilies,
} from "../../lab/address-plan.ts";
import type { Link } from "../../lab/link.ts";
import { run } from "../../lab/process.ts";
import type { KubeNode } from "./kube-node.ts";

/** Host part of the control plane's address on the link; cluster DNS has the lab's 100. */
export const API_HOST = 101;
export const API_PORT = 6443;

const byFamily = (families: IpFamilies, v4: string, v6: string): string[] => [
  ...(hasV4(families) ? [v4] : []),
  ...(hasV6(families) ? [v6] : []),
];
export const clusterPodCidrs = (families: IpFamilies): string[] =>
  byFamily(families, "10.244.0.0/16", "fd00:244::/32");
export const serviceCidrs = (families: IpFamilies): string[] =>
  byFamily(families, "10.96.0.0/16", "fd00:96::/112");

/** A router answers for what it cannot reach; a plain host would drop it. */
const ROUTER = {
  "net/ipv4/ip_forward": "1",
  "net/ipv6/conf/all/forwarding": "1",
  "net/ipv4/conf/all/send_redirects": "0",
} as const;

/** The sandbox's own namespace, in which the control plane and the test run, gets a port on the link. */
export async function connectOurselves(link: Link, families: IpFamilies): Promise<void> {
  for (const [key, value] of Object.entries(ROUTER)) writeFileSync(`/proc/sys/${key}`, value);
  const { name } = link.netns;
  await run("ip link add eth0 type veth peer name api netns".split(" ").concat(name));
  await link.netns.ip(["link set dev api master wire up"]);
  const lines = linkAddresses(API_HOST, families).map((address) => {
    // the address is used at once
    const flag = address.includes(":") ? "nodad" : "";
    return `address add ${withLinkPrefix(address)} dev eth0 ${flag}`;
  });
  await run(["ip", "-batch", "-"], { input: [...lines, "link set eth0 up"].join("\n") });
}

/** Other nodes' pods by their node; anything else is unreachable, and said to be so by the control plane's host. */
export function nodeRoutes(
  node: KubeNode,
  nodes: readonly KubeNode[],
  families: IpFamilies,
): string[] {
  return [
    ...nodes.filter((other) => other !== node).flatMap(routesTo),
    ...linkAddresses(API_HOST, families).map((address) => `route add default via ${address}`),
  ];
}

export const routesTo = (node: KubeNode): string[] =>
  node.podCidrs.map((cidr) => {
    const via = node.addresses.find((a) => a.includes(":") === cidr.includes(":")) ?? "";
    return `route add ${cidr} via ${via} dev eth0`;
  });

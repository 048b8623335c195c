// Which addresses a lab uses: fixed, so that captures and logs can be read at sight.

export type IpFamilies = "ipv4" | "ipv6" | "dual";

/** Host part of the machine that istiod runs on, on the link between nodes. */
export const CONTROL_HOST = 100;
/** Host part of the cluster DNS service, as kubeadm has it. */
export const DNS_SERVICE_HOST = 10;
/** Nodes are numbered from 1; the control machine takes 100. */
export const MAX_NODES = 99;

export const hasV4 = (families: IpFamilies): boolean => families !== "ipv6";
export const hasV6 = (families: IpFamilies): boolean => families !== "ipv4";

export function serviceFamilies(families: IpFamilies): ("IPv4" | "IPv6")[] {
  return [
    ...(hasV4(families) ? (["IPv4"] as const) : []),
    ...(hasV6(families) ? (["IPv6"] as const) : []),
  ];
}

/** Addresses on the link, IPv4 first; `host` as in 172.30.0.<host>. */
export function linkAddresses(host: number, families: IpFamilies): string[] {
  return [
    ...(hasV4(families) ? [`172.30.0.${host}`] : []),
    ...(hasV6(families) ? [`fd00:172::${host}`] : []),
  ];
}

export function podCidrs(node: number, families: IpFamilies): string[] {
  return [
    ...(hasV4(families) ? [`10.244.${node}.0/24`] : []),
    ...(hasV6(families) ? [`fd00:244:${node}::/64`] : []),
  ];
}

/** The service address with this host part. */
export function serviceAddress(host: number, family: "IPv4" | "IPv6"): string {
  return family === "IPv4" ? `10.96.${host >> 8}.${host & 255}` : `fd00:96::${host.toString(16)}`;
}

/** `<address>/<length>` of an address on the link. */
export const withLinkPrefix = (address: string): string =>
  `${address}${address.includes(":") ? "/64" : "/24"}`;

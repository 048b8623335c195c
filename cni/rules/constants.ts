// The numbers and names both sides of the redirection agree on: rules here, sockets in ztunnel.
// They are Istio's, so that either side may be Istio's part.

/** SO_MARK of every socket the proxy opens inside a pod; compared under `MARK_MASK`. */
export const PROXY_MARK = 0x539;
/** Connection and packet mark of the application's replies to a proxy that kept the client's address. */
export const RETURN_MARK = 0x111;
export const MARK_MASK = 0xfff;

/** Policy routing that sends marked replies to the proxy's transparent socket over `lo`. */
export const ROUTE_TABLE = 100;
export const RULE_PRIORITY = 32_764;

/** The kubelet's probes carry this source inside the pod, whatever the node's address. */
export const PROBE_SNAT = {
  ipv4: "169.254.7.127",
  ipv6: "fd16:9254:7127:1337:ffff:ffff:ffff:ffff",
};
/** Host sets (ipset or nft) of the pod addresses whose probes are exempt. */
export const PROBE_SET = { ipv4: "istio-inpod-probes-v4", ipv6: "istio-inpod-probes-v6" } as const;

export const LOOPBACK = { ipv4: "127.0.0.1", ipv6: "::1" } as const;

export const NFT_TABLE = {
  mangle: "istio-ambient-mangle",
  nat: "istio-ambient-nat",
  raw: "istio-ambient-raw",
} as const;

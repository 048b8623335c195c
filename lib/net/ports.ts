// The mesh's well-known ports. See the port table in ztunnel/README.md.

export const PORT = {
  outbound: 15_001,
  inboundPlaintext: 15_006,
  hbone: 15_008,
  dns: 15_053,
  socks5: 15_080,
  ztunnelAdmin: 15_000,
  ztunnelMetrics: 15_020,
  ztunnelReadiness: 15_021,
  xds: 15_012,
  istiodDebug: 15_014,
} as const;

/** Ports of the proxy itself inside a pod: a connection that ends at one of them would be a loop. */
export const OWN_PORTS: ReadonlySet<number> = new Set([
  PORT.outbound,
  PORT.inboundPlaintext,
  PORT.hbone,
]);

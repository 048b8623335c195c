// A connection between two known pods, for tests of this room; each test spells out what matters to it.
import { type SocketAddr, tryParseSocketAddr } from "#lib/net/ip.ts";
import { identityOf } from "#lib/model/workload.ts";
import { service, workload } from "#lib/model/test-mesh.ts";
import type { ConnectionInit } from "./connection.ts";
import type { SeriesKey } from "./traffic-labels.ts";

export const CART = workload("cart-7d9c4-x2x8p", {
  namespace: "shop",
  serviceAccount: "cart",
  workloadName: "cart",
  canonicalName: "cart-app",
  canonicalRevision: "v2",
  locality: { region: "eu", zone: "eu-1", subzone: "" },
});
export const STOCK = workload("stock-66b5f-9wq7m", {
  namespace: "shop",
  serviceAccount: "stock",
  workloadName: "stock",
});
export const STOCK_SERVICE = service("stock", { namespace: "shop" });

/** `ip:port` or `[ip]:port`. */
export function addr(text: string): SocketAddr {
  const parsed = tryParseSocketAddr(text);
  if (parsed === null) throw new Error(`Not an address with a port: ${text}`);
  return parsed;
}

export function init(part: Partial<ConnectionInit> = {}): ConnectionInit {
  return {
    direction: "outbound",
    protocol: "HBONE",
    source: addr("10.0.1.9:51034"),
    sourceWorkload: CART,
    sourceIdentity: identityOf(CART),
    destination: addr("10.0.2.4:15008"),
    original: "10.0.2.4:8080",
    destinationWorkload: STOCK,
    destinationIdentity: identityOf(STOCK),
    service: STOCK_SERVICE,
    via: null,
    ...part,
  };
}

export function seriesKey(part: Partial<SeriesKey> = {}): SeriesKey {
  return {
    reporter: "source",
    source: CART,
    sourceIdentity: identityOf(CART),
    destination: STOCK,
    service: STOCK_SERVICE,
    isMutualTls: true,
    ...part,
  };
}

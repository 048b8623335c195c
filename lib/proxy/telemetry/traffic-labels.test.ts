// Label sets of the TCP metrics: Istio's order, `unknown` for what is missing, one series per set.
import assert from "node:assert/strict";
import { test } from "node:test";
import { workload } from "#lib/model/test-mesh.ts";
import { CART, seriesKey, STOCK } from "./test-connection.ts";
import {
  type EndLabels,
  SOURCE_LABELS,
  sourceLabels,
  TRAFFIC_LABELS,
  TrafficTable,
} from "./traffic-labels.ts";

function labels(part: Parameters<typeof seriesKey>[0] = {}): Record<string, string> {
  const values = new TrafficTable().seriesFor(seriesKey(part)).labels;
  return Object.fromEntries(TRAFFIC_LABELS.map((name, i) => [name, values[i] ?? ""]));
}

test("all 27 labels, for a connection in mutual TLS", () => {
  assert.deepEqual(labels(), {
    reporter: "source",
    source_workload: "cart",
    source_canonical_service: "cart-app",
    source_canonical_revision: "v2",
    source_workload_namespace: "shop",
    source_principal: "spiffe://cluster.local/ns/shop/sa/cart",
    source_app: "cart-app",
    source_version: "v2",
    source_cluster: "Kubernetes",
    destination_service: "stock.shop.svc.cluster.local",
    destination_service_namespace: "shop",
    destination_service_name: "stock",
    destination_workload: "stock",
    destination_canonical_service: "stock-66b5f-9wq7m",
    destination_canonical_revision: "latest",
    destination_workload_namespace: "shop",
    destination_principal: "spiffe://cluster.local/ns/shop/sa/stock",
    destination_app: "stock-66b5f-9wq7m",
    destination_version: "latest",
    destination_cluster: "Kubernetes",
    request_protocol: "tcp",
    response_flags: "-",
    connection_security_policy: "mutual_tls",
    source_region: "eu",
    source_zone: "eu-1",
    destination_region: "unknown",
    destination_zone: "unknown",
  });
  assert.equal(TRAFFIC_LABELS.length, 27);
});

test("plain text to nowhere known: everything is there, as unknown", () => {
  const got = labels({
    source: null,
    sourceIdentity: null,
    destination: null,
    service: null,
    isMutualTls: false,
  });
  const { reporter, request_protocol, response_flags, ...rest } = got;
  assert.deepEqual([reporter, request_protocol, response_flags], ["source", "tcp", "-"]);
  assert.deepEqual(new Set(Object.values(rest)), new Set(["unknown"]));
});

test("a source in its own words keeps them; its principal still comes from mutual TLS alone", () => {
  const words: EndLabels = {
    workload: "w",
    canonicalService: "svc",
    canonicalRevision: "",
    namespace: "n",
    app: "w",
    version: "",
    cluster: "c2",
    region: "r",
    zone: "z",
  };
  const got = labels({ source: words, sourceIdentity: null });
  assert.deepEqual(
    [got["source_app"], got["source_version"], got["source_cluster"], got["source_principal"]],
    ["w", "unknown", "c2", "unknown"],
  );
});

test("one series per label set, also for records sent again", () => {
  const table = new TrafficTable();
  const first = table.seriesFor(seriesKey());
  assert.equal(table.seriesFor(seriesKey()), first);
  const again = workload("cart-7d9c4-x2x8p", { ...CART });
  assert.equal(table.seriesFor(seriesKey({ source: again })), first);
  assert.equal(table.seriesFor(seriesKey({ destination: { ...STOCK } })), first);
  assert.notEqual(table.seriesFor(seriesKey({ isMutualTls: false })), first);
  assert.notEqual(table.seriesFor(seriesKey({ service: null })), first);
  assert.notEqual(table.seriesFor(seriesKey({ reporter: "destination" })), first);
  assert.equal(table.snapshot().length, 4);
});

test("more ends than are kept near a record still count into the right series", () => {
  const table = new TrafficTable();
  const sources = Array.from({ length: 200 }, (_, n) => workload(`client-${n}`));
  for (let round = 0; round < 2; round++)
    for (const source of sources) table.seriesFor(seriesKey({ source })).opened++;
  assert.equal(table.snapshot().length, 200);
  assert.ok(table.snapshot().every(({ opened }) => opened === 2));
});

test("an end with a flag counts beside the series of what is live", () => {
  const table = new TrafficTable();
  const live = table.seriesFor(seriesKey());
  assert.equal(table.withFlag(live, "-"), live);
  const denied = table.withFlag(live, "DENY");
  assert.notEqual(denied, live);
  assert.equal(table.withFlag(live, "DENY"), denied);
  const at = TRAFFIC_LABELS.indexOf("response_flags");
  assert.deepEqual([live.labels[at], denied.labels[at]], ["-", "DENY"]);
  assert.deepEqual(denied.labels.toSpliced(at, 1), live.labels.toSpliced(at, 1));
});

test("a local source names itself, identity included", () => {
  const got = Object.fromEntries(SOURCE_LABELS.map((name, i) => [name, sourceLabels(CART)[i]]));
  assert.equal(sourceLabels(CART).length, SOURCE_LABELS.length);
  assert.deepEqual(got, {
    source_workload: "cart",
    source_canonical_service: "cart-app",
    source_canonical_revision: "v2",
    source_workload_namespace: "shop",
    source_principal: "spiffe://cluster.local/ns/shop/sa/cart",
    source_app: "cart-app",
    source_version: "v2",
    source_cluster: "Kubernetes",
  });
});

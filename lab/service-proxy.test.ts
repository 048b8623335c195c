import assert from "node:assert/strict";
import { test } from "node:test";
import type { EndpointSlice, Service } from "#lib/kube/objects.ts";
import { renderServiceProxy } from "./service-proxy.ts";

const service = (clusterIPs: readonly string[]): Service => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: "server", namespace: "shop" },
  spec: { clusterIPs, ports: [{ name: "web", port: 80 }] },
});
const slice = (addressType: string, addresses: readonly string[], ready = true): EndpointSlice => ({
  apiVersion: "discovery.k8s.io/v1",
  kind: "EndpointSlice",
  metadata: { name: "s", namespace: "shop", labels: { "kubernetes.io/service-name": "server" } },
  addressType,
  ports: [{ name: "web", port: 8080 }],
  endpoints: addresses.map((a) => ({ addresses: [a], conditions: { ready } })),
});
const lines = (...args: Parameters<typeof renderServiceProxy>): string[] =>
  renderServiceProxy(...args)
    .split("\n")
    .map((l) => l.trim());

test("service proxy: equal shares of ready endpoints, per family", () => {
  const rules = lines(
    [service(["10.96.0.16", "fd00:96::10"])],
    [slice("IPv4", ["10.244.1.2", "10.244.2.2"]), slice("IPv6", ["fd00:244:1::2"])],
    [],
    true,
  );
  assert.ok(
    rules.includes(
      "ip daddr 10.96.0.16 tcp dport 80 dnat ip to numgen random mod 2 map { 0 : 10.244.1.2 . 8080, 1 : 10.244.2.2 . 8080 }",
    ),
  );
  assert.ok(
    rules.includes(
      "ip6 daddr fd00:96::10 tcp dport 80 dnat ip6 to numgen random mod 1 map { 0 : fd00:244:1::2 . 8080 }",
    ),
  );
});

test("service proxy: no ready endpoint is refused, not dropped", () => {
  const rules = lines([service(["10.96.0.16"])], [slice("IPv4", ["10.244.1.2"], false)], [], true);
  assert.ok(rules.includes("ip daddr 10.96.0.16 tcp dport 80 reject"));
  assert.ok(!rules.some((r) => r.includes("dnat")));
});

test("service proxy: a pod that reaches itself is masqueraded, its neighbours only without the bridge filter", () => {
  const args = [
    [service(["10.96.0.16"])],
    [slice("IPv4", ["10.244.1.2"])],
    ["10.244.1.0/24"],
  ] as const;
  assert.ok(
    lines(...args, true).includes(
      "ip saddr 10.244.1.2 ip daddr 10.244.1.2 ct status dnat masquerade",
    ),
  );
  const neighbours = "ip saddr 10.244.1.0/24 ip daddr 10.244.1.0/24 ct status dnat masquerade";
  assert.ok(!lines(...args, true).includes(neighbours));
  assert.ok(lines(...args, false).includes(neighbours));
});

test("service proxy: headless services and other namespaces' slices are nothing to it", () => {
  const other = {
    ...slice("IPv4", ["10.244.1.2"]),
    metadata: { name: "s", namespace: "other", labels: { "kubernetes.io/service-name": "server" } },
  };
  assert.ok(!renderServiceProxy([service(["None"])], [other], [], true).includes("daddr"));
});

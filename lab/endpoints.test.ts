import assert from "node:assert/strict";
import { test } from "node:test";
import type { Pod, Service } from "#lib/kube/objects.ts";
import { slicesFor } from "./endpoints.ts";

interface PodCase {
  readonly name?: string;
  readonly ready?: boolean;
  readonly deleting?: boolean;
  readonly phase?: string;
  readonly ips?: readonly string[];
  readonly labels?: Record<string, string>;
}

const pod = (c: PodCase): Pod => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: {
    name: c.name ?? "p",
    namespace: "shop",
    uid: `uid-${c.name ?? "p"}`,
    labels: c.labels ?? { app: "server" },
    ...(c.deleting === true ? { deletionTimestamp: "2026-01-01T00:00:00Z" } : {}),
  },
  spec: {
    nodeName: "a",
    containers: [{ name: "main", ports: [{ name: "web", containerPort: 8080 }] }],
  },
  status: {
    phase: c.phase ?? "Running",
    podIPs: (c.ips ?? ["10.244.1.2", "fd00:244:1::2"]).map((ip) => ({ ip })),
    conditions: [{ type: "Ready", status: c.ready === false ? "False" : "True" }],
  },
});

const service = (spec: Service["spec"] = {}): Service => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: "server", namespace: "shop", uid: "svc" },
  spec: {
    selector: { app: "server" },
    ports: [{ port: 80, targetPort: "web" }],
    ipFamilies: ["IPv4", "IPv6"],
    ...spec,
  },
});

const slices = (s: Service, ...pods: PodCase[]) => slicesFor(s, pods.map(pod), () => "zone-a");

test("endpoints: one slice per family, named ports resolved, pod and zone named", () => {
  const [v4, v6] = slices(service(), {});
  assert.equal(v4?.metadata.name, "server-ipv4");
  assert.deepEqual(v4?.ports, [{ name: "", port: 8080, protocol: "TCP" }]);
  assert.deepEqual(v4?.endpoints, [
    {
      addresses: ["10.244.1.2"],
      conditions: { ready: true, serving: true, terminating: false },
      nodeName: "a",
      zone: "zone-a",
      targetRef: { kind: "Pod", name: "p", namespace: "shop", uid: "uid-p" },
    },
  ]);
  assert.deepEqual(v6?.endpoints?.[0]?.addresses, ["fd00:244:1::2"]);
});

for (const c of [
  {
    name: "not ready",
    pod: { ready: false },
    want: { ready: false, serving: false, terminating: false },
  },
  {
    name: "terminating",
    pod: { deleting: true },
    want: { ready: false, serving: true, terminating: true },
  },
])
  test(`endpoints: conditions of a ${c.name} pod`, () => {
    assert.deepEqual(slices(service(), c.pod)[0]?.endpoints?.[0]?.conditions, c.want);
  });

for (const c of [
  { name: "a finished pod", pod: { phase: "Succeeded" } },
  { name: "a pod without address", pod: { ips: [] } },
  { name: "a pod with another label", pod: { labels: { app: "other" } } },
  { name: "a pod without this family's address", pod: { ips: ["fd00:244:1::2"] } },
])
  test(`endpoints: ${c.name} is none`, () => {
    assert.deepEqual(slices(service({ ipFamilies: ["IPv4"] }), c.pod)[0]?.endpoints, []);
  });

test("endpoints: a service without selector keeps its hand-made slices", () => {
  assert.deepEqual(slices(service({ selector: {} }), {}), []);
});

test("endpoints: unready addresses are published when asked", () => {
  const s = service({ publishNotReadyAddresses: true });
  assert.equal(slices(s, { ready: false })[0]?.endpoints?.[0]?.conditions?.ready, true);
});

test("endpoints: pods are in name order, so the same pods give the same slice", () => {
  const [slice] = slices(service(), { name: "b" }, { name: "a" });
  assert.deepEqual(
    slice?.endpoints?.map((e) => e.targetRef?.name),
    ["a", "b"],
  );
});

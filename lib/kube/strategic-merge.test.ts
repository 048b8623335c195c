// Strategic merge patches in one table; the same against kubectl itself: test/kube/api/strategic-merge.test.ts.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { JsonObject } from "./json.ts";
import { MergeError, strategicMerge } from "./strategic-merge.ts";

const deployment = (spec: JsonObject): JsonObject => ({
  apiVersion: "apps/v1",
  kind: "Deployment",
  spec: { template: { spec } },
});
const service = (spec: JsonObject): JsonObject => ({
  apiVersion: "v1",
  kind: "Service",
  spec,
});

for (const c of [
  {
    name: "containers by name, their env by name, ports by containerPort",
    object: deployment({
      containers: [
        {
          name: "istio-proxy",
          env: [
            { name: "A", value: "1" },
            { name: "B", value: "2" },
          ],
          ports: [{ containerPort: 15020, name: "metrics" }],
        },
      ],
    }),
    patch: deployment({
      containers: [
        {
          name: "istio-proxy",
          env: [
            { name: "B", value: "3" },
            { name: "C", value: "4" },
          ],
          ports: [{ containerPort: 15020, protocol: "TCP" }, { containerPort: 9 }],
        },
        { name: "extra" },
      ],
    }),
    want: deployment({
      containers: [
        {
          name: "istio-proxy",
          env: [
            { name: "A", value: "1" },
            { name: "B", value: "3" },
            { name: "C", value: "4" },
          ],
          ports: [{ containerPort: 15020, name: "metrics", protocol: "TCP" }, { containerPort: 9 }],
        },
        { name: "extra" },
      ],
    }),
  },
  {
    name: "tolerations and args are replaced as a whole",
    object: deployment({ tolerations: [{ key: "a" }], containers: [{ name: "c", args: ["x"] }] }),
    patch: deployment({
      tolerations: [{ key: "b" }],
      containers: [{ name: "c", args: ["y", "z"] }],
    }),
    want: deployment({
      tolerations: [{ key: "b" }],
      containers: [{ name: "c", args: ["y", "z"] }],
    }),
  },
  {
    name: "null removes a field, $patch: delete an entry",
    object: deployment({
      securityContext: { runAsUser: 1 },
      volumes: [{ name: "a" }, { name: "b", emptyDir: {} }],
    }),
    patch: deployment({ securityContext: null, volumes: [{ name: "a", $patch: "delete" }] }),
    want: deployment({ volumes: [{ name: "b", emptyDir: {} }] }),
  },
  {
    name: "$patch: replace of a list and of a mapping",
    object: deployment({ nodeSelector: { a: "1" }, volumes: [{ name: "a" }] }),
    patch: deployment({
      nodeSelector: { b: "2", $patch: "replace" },
      volumes: [{ $patch: "replace" }, { name: "c" }],
    }),
    want: deployment({ nodeSelector: { b: "2" }, volumes: [{ name: "c" }] }),
  },
  {
    name: "$patch: delete empties a mapping",
    object: deployment({ nodeSelector: { a: "1" } }),
    patch: deployment({ nodeSelector: { $patch: "delete" } }),
    want: deployment({ nodeSelector: {} }),
  },
  {
    name: "$retainKeys keeps only what it names, as a volume that changes its source needs",
    object: deployment({ volumes: [{ name: "a", emptyDir: {} }] }),
    patch: deployment({
      volumes: [{ name: "a", $retainKeys: ["name", "configMap"], configMap: { name: "m" } }],
    }),
    want: deployment({ volumes: [{ name: "a", configMap: { name: "m" } }] }),
  },
  {
    name: "$setElementOrder orders what it names; others stay before what followed them",
    object: deployment({ containers: [{ name: "a" }, { name: "b" }] }),
    patch: deployment({
      "$setElementOrder/containers": [{ name: "c" }, { name: "b" }],
      containers: [{ name: "c" }],
    }),
    want: deployment({ containers: [{ name: "c" }, { name: "a" }, { name: "b" }] }),
  },
  {
    name: "service ports by port",
    object: service({ ports: [{ port: 15008, name: "mesh" }] }),
    patch: service({ type: "NodePort", ports: [{ port: 15008, nodePort: 30000 }] }),
    want: service({ type: "NodePort", ports: [{ port: 15008, name: "mesh", nodePort: 30000 }] }),
  },
  {
    name: "the selector of a disruption budget is replaced",
    object: {
      apiVersion: "policy/v1",
      kind: "PodDisruptionBudget",
      spec: { selector: { matchLabels: { a: "1" } } },
    },
    patch: { spec: { minAvailable: 1, selector: { matchExpressions: [] } } },
    want: {
      apiVersion: "policy/v1",
      kind: "PodDisruptionBudget",
      spec: { minAvailable: 1, selector: { matchExpressions: [] } },
    },
  },
  {
    name: "finalizers are a set",
    object: { apiVersion: "v1", kind: "Service", metadata: { finalizers: ["a", "b"] } },
    patch: {
      metadata: { finalizers: ["b", "c"], "$deleteFromPrimitiveList/finalizers": ["a"] },
    },
    want: { apiVersion: "v1", kind: "Service", metadata: { finalizers: ["b", "c"] } },
  },
  {
    name: "another type replaces, and nulls in what is new are left out",
    object: deployment({ dnsConfig: "x" as unknown as JsonObject }),
    patch: deployment({ dnsConfig: { searches: ["a"], options: null } }),
    want: deployment({ dnsConfig: { searches: ["a"] } }),
  },
] satisfies { name: string; object: JsonObject; patch: JsonObject; want: JsonObject }[])
  test(`strategic merge: ${c.name}`, () => {
    const [object, patch] = [structuredClone(c.object), structuredClone(c.patch)];
    assert.deepEqual(strategicMerge(object, patch), c.want);
    assert.deepEqual([object, patch], [c.object, c.patch], "arguments are left alone");
  });

for (const c of [
  {
    name: "an entry without its key",
    patch: deployment({ containers: [{ image: "x" }] }),
    message: "spec.template.spec.containers[0] has no name, which tells entries apart",
  },
  {
    name: "an entry that is no mapping",
    patch: deployment({ volumes: ["x"] }),
    message: "spec.template.spec.volumes[0] is no mapping",
  },
  {
    name: "an unknown directive",
    patch: { spec: { $patch: "drop" } },
    message: 'spec has an unknown $patch: "drop"',
  },
  {
    name: "a prototype",
    patch: JSON.parse('{"spec": {"__proto__": {"a": 1}}}') as JsonObject,
    message: "spec.__proto__ is no field",
  },
] satisfies { name: string; patch: JsonObject; message: string }[])
  test(`strategic merge refuses ${c.name}`, () => {
    assert.throws(
      () => strategicMerge({ apiVersion: "apps/v1", kind: "Deployment" }, c.patch),
      (e) => e instanceof MergeError && e.message === c.message,
    );
  });

test("kustomize's way: what the patch names comes first, a port is a number and a protocol", () => {
  const base = deployment({
    nodeSelector: { a: "1" },
    containers: [
      { name: "a", image: "1" },
      { name: "b", ports: [{ containerPort: 53, name: "dns" }] },
    ],
  });
  const patch = deployment({
    nodeSelector: { $patch: "delete" },
    containers: [{ name: "new" }, { name: "b", ports: [{ containerPort: 53, protocol: "UDP" }] }],
  });
  const merged = deployment({
    containers: [
      { name: "new" },
      {
        name: "b",
        ports: [
          { containerPort: 53, protocol: "UDP" },
          { containerPort: 53, name: "dns" },
        ],
      },
      { name: "a", image: "1" },
    ],
  });
  assert.deepEqual(strategicMerge(base, patch, "kustomize"), merged);
});

test("lists of kinds the API server does not build in are replaced", () => {
  const of = (ports: JsonObject[]): JsonObject => ({
    apiVersion: "serving.knative.dev/v1",
    kind: "Service",
    spec: { ports },
  });
  for (const dialect of ["kubectl", "kustomize"] as const) {
    const merged = strategicMerge(of([{ port: 1 }, { port: 2 }]), of([{ port: 1 }]), dialect);
    assert.deepEqual(merged["spec"], { ports: [{ port: 1 }] });
  }
});

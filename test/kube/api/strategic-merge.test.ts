// Our strategic merge patch beside kubectl's and kustomize's own: overlays and manifests mean here what they mean there.
import assert from "node:assert/strict";
import { mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { parse } from "yaml";
import type { JsonObject } from "#lib/kube/json.ts";
import { strategicMerge } from "#lib/kube/strategic-merge.ts";
import { WAYPOINT_CLASS } from "../../../istiod/gateway/classes.ts";
import { render } from "../../../istiod/gateway/render.ts";
import { PROGRAM, SETTINGS, waypointGateway } from "../../../istiod/gateway/test-gateway.ts";
import { run } from "../../../lab/process.ts";
import { program } from "../binaries.ts";

const overlay = { from: "test", patches: new Map() };
for (const key of ["horizontalPodAutoscaler", "podDisruptionBudget"]) overlay.patches.set(key, {});
const rendering = render(waypointGateway(), {
  managedClass: WAYPOINT_CLASS,
  settings: SETTINGS,
  program: PROGRAM,
  overlays: [overlay],
  deployedSelector: null,
});
assert(rendering.kind === "objects");
const made = new Map(rendering.objects.map(({ object }) => [object.kind, object]));

/** As kubectl prints the object after the patch, which may be an empty one. */
async function patched(object: unknown, patch: object): Promise<unknown> {
  const args = ["patch", "--local", "--type=strategic", "-f", "-", "-o", "json"];
  const command = [await program("kubectl"), ...args, "-p", JSON.stringify(patch)];
  const { code, stdout, stderr } = await run(command, {
    input: JSON.stringify(object),
    allowFailure: true,
    timeoutMs: 10_000,
  });
  assert.equal(code, 0, stderr);
  return JSON.parse(stdout);
}

const pod = (spec: object): object => ({ spec: { template: { spec } } });
const main = (given: object): object => pod({ containers: [{ name: "istio-proxy", ...given }] });

const variables = (...names: string[]): object =>
  main({ env: names.map((name) => ({ name, value: "x" })) });

const CASES: readonly (readonly [kind: string, what: string, patch: object])[] = [
  [
    "Deployment",
    "a new variable and a changed one",
    main({
      env: [
        { name: "LOG_LEVEL", value: "debug" },
        { name: "XDS_ADDRESS", value: "x:1" },
      ],
    }),
  ],
  [
    "Deployment",
    "a second container and an init container",
    pod({
      containers: [{ name: "extra", image: "busybox" }],
      initContainers: [{ name: "init", image: "busybox" }],
    }),
  ],
  ["Deployment", "order of new and old", variables("NEW", "GATEWAY_NAME", "NEWER", "XDS_ADDRESS")],
  ["Deployment", "arguments replaced", main({ args: ["waypoint", "--flag"] })],
  [
    "Deployment",
    "a port by its number",
    main({
      ports: [
        { containerPort: 15020, hostPort: 1 },
        { containerPort: 9, name: "nine" },
      ],
    }),
  ],
  [
    "Deployment",
    "a mount by its path",
    main({
      volumeMounts: [{ mountPath: "/etc/istio/pod", name: "istio-podinfo", readOnly: false }],
    }),
  ],
  [
    "Deployment",
    "a volume that changes its source",
    pod({ volumes: [{ name: "istio-podinfo", $retainKeys: ["name", "emptyDir"], emptyDir: {} }] }),
  ],
  ["Deployment", "a volume gone", pod({ volumes: [{ name: "istio-podinfo", $patch: "delete" }] })],
  [
    "Deployment",
    "all volumes replaced",
    pod({ volumes: [{ $patch: "replace" }, { name: "only", emptyDir: {} }] }),
  ],
  ["Deployment", "fields gone", main({ resources: null, startupProbe: null })],
  [
    "Deployment",
    "a mapping replaced",
    main({ resources: { $patch: "replace", limits: { cpu: "1" } } }),
  ],
  ["Deployment", "a mapping emptied", main({ resources: { $patch: "delete" } })],
  [
    "Deployment",
    "an order",
    pod({
      "$setElementOrder/containers": [{ name: "first" }, { name: "istio-proxy" }],
      containers: [{ name: "first", image: "busybox" }],
    }),
  ],
  [
    "Deployment",
    "tolerations, spread and affinity",
    pod({
      tolerations: [{ key: "a", operator: "Exists" }],
      topologySpreadConstraints: [
        { maxSkew: 1, topologyKey: "zone", whenUnsatisfiable: "ScheduleAnyway" },
      ],
      affinity: { nodeAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [] } },
    }),
  ],
  [
    "Deployment",
    "annotations, and a label gone",
    {
      metadata: {
        annotations: { a: "b" },
        labels: { "gateway.networking.k8s.io/gateway-class-name": null },
      },
    },
  ],
  ["Deployment", "a strategy", { spec: { strategy: { type: "Recreate" }, replicas: 2 } }],
  [
    "Service",
    "a port by its number",
    {
      spec: {
        ports: [
          { port: 15008, nodePort: 30008 },
          { port: 80, name: "web" },
        ],
        type: "NodePort",
      },
    },
  ],
  ["Service", "a port gone", { spec: { ports: [{ port: 15021, $patch: "delete" }] } }],
  [
    "Service",
    "lists of values replaced",
    { spec: { externalIPs: ["192.0.2.1"], loadBalancerSourceRanges: ["192.0.2.0/24"] } },
  ],
  [
    "ServiceAccount",
    "secrets by name, pull secrets",
    { secrets: [{ name: "a" }], imagePullSecrets: [{ name: "b" }] },
  ],
  [
    "HorizontalPodAutoscaler",
    "metrics",
    {
      spec: {
        maxReplicas: 4,
        metrics: [
          {
            type: "Resource",
            resource: { name: "cpu", target: { type: "Utilization", averageUtilization: 80 } },
          },
        ],
      },
    },
  ],
  [
    "PodDisruptionBudget",
    "a selector replaced",
    {
      spec: { minAvailable: 1, selector: { matchExpressions: [{ key: "a", operator: "Exists" }] } },
    },
  ],
];

for (const [kind, what, patch] of CASES)
  test(`${kind}: ${what}`, async () => {
    const object = made.get(kind) as unknown as JsonObject;
    const ours = strategicMerge(object, patch as JsonObject);
    const [mine, theirs] = await Promise.all([patched(ours, {}), patched(object, patch)]);
    assert.deepEqual(mine, theirs);
    assert.notDeepEqual(mine, await patched(object, {}), "the patch changes something");
  });

/** As `kubectl kustomize` prints the object after the patch. */
async function kustomized(object: JsonObject, patch: object): Promise<unknown> {
  await using dir = await mkdtempDisposable(join(tmpdir(), "ambit-merge-"));
  const { apiVersion, kind, metadata } = object;
  const { name } = metadata as { readonly name: string };
  const own = (patch as { readonly metadata?: object }).metadata ?? {};
  const put = (file: string, json: unknown): Promise<void> =>
    writeFile(join(dir.path, file), JSON.stringify(json));
  await put("object.json", object);
  await put("patch.json", { ...patch, apiVersion, kind, metadata: { ...own, name } });
  await put("kustomization.yaml", {
    resources: ["object.json"],
    patches: [{ path: "patch.json", target: { kind } }],
  });
  const command = [await program("kubectl"), "kustomize", dir.path];
  const { code, stdout, stderr } = await run(command, { allowFailure: true, timeoutMs: 10_000 });
  assert.equal(code, 0, stderr);
  return parse(stdout);
}

/** What kustomize makes no sense of. */
const BEYOND_KUSTOMIZE = new Set([
  "a port by its number", // a port without protocol is none of the TCP ports
  "a port gone",
  "a volume that changes its source", // $retainKeys stays in the object
  "an order", // so does $setElementOrder
  "annotations, and a label gone", // null becomes "null"
]);

for (const [kind, what, patch] of CASES.filter(([, what]) => !BEYOND_KUSTOMIZE.has(what)))
  test(`kustomize, ${kind}: ${what}`, async () => {
    // without what JSON cannot say, and without what kustomize leaves out
    const { annotations = {}, ...rest } = made.get(kind)?.metadata ?? {};
    const metadata = Object.keys(annotations).length === 0 ? rest : { ...rest, annotations };
    const object = JSON.parse(JSON.stringify({ ...made.get(kind), metadata })) as JsonObject;
    const ours = strategicMerge(object, patch as JsonObject, "kustomize");
    assert.deepEqual(ours, await kustomized(object, patch));
  });

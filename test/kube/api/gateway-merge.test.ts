// Our strategic merge patch beside kubectl's own: overlays mean here what they mean there.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { JsonObject } from "#lib/kube/json.ts";
import { WAYPOINT_CLASS } from "../../../istiod/gateway/classes.ts";
import { render } from "../../../istiod/gateway/render.ts";
import { strategicMerge } from "../../../istiod/gateway/strategic-merge.ts";
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

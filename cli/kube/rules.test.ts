// The rules the CLI reads objects by: policies, waypoints, why a pod is not ready.
import assert from "node:assert/strict";
import { test } from "node:test";
import type {
  AuthorizationPolicy,
  Gateway,
  Namespace,
  PeerAuthentication,
  Pod,
} from "#lib/kube/objects.ts";
import { podProblem } from "./pod-state.ts";
import { l7Fields, mayAllow, mtlsOf, selectsPod } from "./policies.ts";
import { waypointFault, waypointUse } from "./waypoints.ts";

const policy = (spec: AuthorizationPolicy["spec"], namespace = "shop"): AuthorizationPolicy => ({
  apiVersion: "security.istio.io/v1",
  kind: "AuthorizationPolicy",
  metadata: { name: "p", namespace },
  ...(spec === undefined ? {} : { spec }),
});
const pod: Pod = {
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: "cart", namespace: "shop", labels: { app: "cart" } },
};

for (const [name, p, want] of [
  ["of the namespace", policy({}), true],
  ["that selects it", policy({ selector: { matchLabels: { app: "cart" } } }), true],
  ["that selects others", policy({ selector: { matchLabels: { app: "x" } } }), false],
  ["of the root namespace", policy({}, "istio-system"), true],
  ["of another namespace", policy({}, "other"), false],
  ["with targetRefs", policy({ targetRefs: [{ kind: "Service", name: "cart" }] }), false],
] as const)
  test(`a policy ${name} ${want ? "holds" : "does not hold"} for a pod`, () =>
    assert.equal(selectsPod(p, pod, "istio-system"), want));

const WAYPOINT = "cluster.local/ns/shop/sa/waypoint";
for (const [source, want] of [
  [{ principals: [WAYPOINT] }, true],
  [{ principals: ["cluster.local/ns/shop/*"] }, true],
  [{ principals: ["*/sa/waypoint"] }, true],
  [{ principals: ["cluster.local/ns/shop/sa/other"] }, false],
  [{ namespaces: ["shop"] }, true],
  [{ namespaces: ["other"] }, false],
  [{ serviceAccounts: ["shop/waypoint"] }, true],
  [{ principals: ["*"], notPrincipals: [WAYPOINT] }, false],
  [{ ipBlocks: ["10.0.0.0/8"] }, true],
] as const)
  test(`an ALLOW rule from ${JSON.stringify(source)} ${want ? "admits" : "shuts out"} the waypoint`, () =>
    assert.equal(mayAllow(policy({ rules: [{ from: [{ source }] }] }), WAYPOINT), want));

test("fields of layer 7 are found wherever they stand", () => {
  assert.deepEqual(
    l7Fields({
      from: [{ source: { requestPrincipals: ["*"], principals: ["*"] } }],
      to: [{ operation: { methods: ["GET"], ports: ["80"] } }],
      when: [
        { key: "request.headers[x]", values: ["y"] },
        { key: "source.ip", values: ["1.2.3.4"] },
      ],
    }),
    ["methods", "requestPrincipals", "request.headers[x]"],
  );
});

test("mutual TLS: the pod's own, the namespace's, the mesh's, and UNSET looks further", () => {
  const pa = (
    name: string,
    namespace: string,
    spec: PeerAuthentication["spec"],
  ): PeerAuthentication => ({
    apiVersion: "security.istio.io/v1",
    kind: "PeerAuthentication",
    metadata: { name, namespace },
    ...(spec === undefined ? {} : { spec }),
  });
  const mesh = pa("mesh", "istio-system", { mtls: { mode: "STRICT" } });
  const home = pa("home", "shop", { mtls: { mode: "PERMISSIVE" } });
  const unset = pa("home", "shop", { mtls: { mode: "UNSET" } });
  const own = pa("own", "shop", {
    selector: { matchLabels: { app: "cart" } },
    mtls: { mode: "DISABLE" },
  });
  const modeOf = (...all: PeerAuthentication[]): string => mtlsOf(all, pod, "istio-system").mode;
  assert.equal(modeOf(), "PERMISSIVE");
  assert.equal(modeOf(mesh), "STRICT");
  assert.equal(modeOf(mesh, home), "PERMISSIVE");
  assert.equal(modeOf(mesh, unset), "STRICT");
  assert.equal(modeOf(mesh, home, own), "DISABLE");
});

const namespace = (labels: Record<string, string>): Namespace => ({
  apiVersion: "v1",
  kind: "Namespace",
  metadata: { name: "shop", labels },
});
const withLabels = (labels: Record<string, string>): Pod => ({
  ...pod,
  metadata: { ...pod.metadata, labels },
});

test("which waypoint: the own label before the namespace's, none opts out", () => {
  const use = "istio.io/use-waypoint";
  const home = namespace({ [use]: "w" });
  assert.deepEqual(waypointUse(pod, home), { name: "w", namespace: "shop", level: "namespace" });
  assert.equal(waypointUse(withLabels({ [use]: "none" }), home), null);
  assert.deepEqual(waypointUse(withLabels({ [use]: "x", [`${use}-namespace`]: "o" }), home), {
    name: "x",
    namespace: "o",
    level: "own",
  });
  assert.equal(waypointUse(pod, namespace({})), null);
});

test("why a waypoint is not used: missing, not programmed, not admitted, wrong type", () => {
  const gateway = (labels: Record<string, string>, home = "shop", ready = true): Gateway => ({
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "Gateway",
    metadata: { name: "w", namespace: home, labels },
    spec: { listeners: [{ name: "mesh", port: 15008, protocol: "HBONE" }] },
    status: { addresses: ready ? [{ value: "10.0.0.1" }] : [] },
  });
  const own = { name: "w", namespace: "shop", level: "own" } as const;
  const fault = (g: Gateway | null, kind: "service" | "workload" = "service") =>
    waypointFault(own, kind, namespace({}), g, null);
  assert.equal(fault(null), "missing");
  assert.equal(fault(gateway({}, "shop", false)), "not programmed");
  assert.equal(fault(gateway({}, "other")), "not admitted");
  assert.equal(fault(gateway({}), "workload"), "wrong type");
  assert.equal(fault(gateway({ "istio.io/waypoint-for": "all" }), "workload"), null);
  assert.equal(fault(gateway({})), null);
});

test("why a pod is not ready: the waiting reason, the last end, the scheduler", () => {
  const of = (status: unknown): Pod => ({ ...pod, status: status as never });
  const problem = (status: unknown): string => {
    const p = podProblem(of(status));
    return p === null ? "none" : `${p.container} ${p.reason} ${p.message}`.trim();
  };
  assert.equal(problem({ conditions: [{ type: "Ready", status: "True" }] }), "none");
  assert.equal(
    problem({
      containerStatuses: [
        {
          name: "c",
          state: { waiting: { reason: "ErrImageNeverPull", message: "not there\nmore" } },
        },
      ],
    }),
    "c ErrImageNeverPull not there",
  );
  assert.equal(
    problem({
      containerStatuses: [
        {
          name: "c",
          ready: false,
          state: { running: {} },
          lastState: { terminated: { exitCode: 1, reason: "Error" } },
        },
      ],
    }),
    "c Error (exit 1)",
  );
  assert.equal(
    problem({
      conditions: [
        { type: "PodScheduled", status: "False", reason: "Unschedulable", message: "0/2 nodes" },
      ],
    }),
    "null Unschedulable 0/2 nodes",
  );
});

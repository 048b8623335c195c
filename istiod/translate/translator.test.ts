// The translator as a whole: what is visible, what is sent again, look-ups, and that any sequence of
// changes ends in the bytes that the final state gives from scratch.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { KubeObject } from "#lib/kube/cluster.ts";
import { parseManifest } from "#lib/kube/manifest.ts";
import { resourceOf } from "#lib/kube/parse-object.ts";
import { DEFAULT_CONFIG, type TranslateConfig } from "./config.ts";
import type { MeshDelta, ObjectChange } from "./mesh.ts";
import { gateway, istio, namespace, pod, service, TestMesh } from "./test-mesh.ts";
import { MeshTranslator } from "./translator.ts";

const WEB = "shop/web.shop.svc.cluster.local";
const SPEC = "clusterIP: 10.1.0.1, selector: {app: web}, ports: [{port: 80}]";

test("one changed Pod is one changed resource, and a change nobody reads is none", () => {
  const mesh = new TestMesh(service("web", SPEC) + pod("a") + pod("b", { ip: "10.0.0.2" }));
  const changed = mesh.apply(pod("a", { ip: "10.0.0.3" }));
  assert.deepEqual(changed, {
    addresses: { updated: ["Kubernetes//Pod/shop/a"], removed: [] },
    authorizations: { updated: [], removed: [] },
    waypointPolicies: { updated: [], removed: [] },
    services: [],
  });
  const unread = mesh.apply(
    pod("a", { ip: "10.0.0.3", extra: "  terminationGracePeriodSeconds: 3\n" }),
  );
  assert.deepEqual(unread.addresses.updated, []);
});

test("look-ups: uid, then workloads of an address, then service by name and by address with members", () => {
  const mesh = new TestMesh(
    service("web", SPEC) + pod("a") + pod("b") + pod("c", { ip: "10.0.0.3" }),
  );
  const t = mesh.translator;
  const uid = (name: string): string => `Kubernetes//Pod/shop/${name}`;
  assert.deepEqual(t.lookup(uid("a")), [uid("a")]);
  assert.deepEqual(t.lookup("/10.0.0.1"), [uid("a"), uid("b")]);
  assert.deepEqual(t.lookup(WEB), [WEB, uid("a"), uid("b"), uid("c")]);
  assert.deepEqual(t.lookup("/10.1.0.1"), [WEB, uid("a"), uid("b"), uid("c")]);
  assert.deepEqual(t.lookup("/10.9.9.9"), []);
  assert.deepEqual(t.aliases(WEB), ["/10.1.0.1"]);
  assert.deepEqual(t.aliases(uid("c")), ["/10.0.0.3"]);
  assert.deepEqual(t.servicesOfWorkload(uid("a")), [WEB]);
});

test("discovery selectors hide a namespace from every table, and show it again", () => {
  const selectors = {
    discoverySelectors: [{ matchLabels: { mesh: "on" } }, { matchLabels: { also: "x" } }],
  };
  const mesh = new TestMesh(
    service("web", SPEC) +
      pod("a") +
      istio("AuthorizationPolicy", "p", "") +
      istio("PeerAuthentication", "p", "mtls: {mode: STRICT}"),
    selectors,
  );
  assert.equal(mesh.translator.addresses().size, 0);
  const shown = mesh.apply(namespace("shop", "mesh: on"));
  assert.deepEqual(shown.addresses.updated, ["Kubernetes//Pod/shop/a", WEB]);
  assert.equal(mesh.translator.authorizations().size, 2);
  assert.deepEqual(mesh.apply(namespace("shop", "also: x")).addresses.removed, []);
  mesh.apply(service("web2", SPEC));
  const hidden = mesh.apply(namespace("shop"));
  assert.deepEqual(hidden.addresses.removed, [
    "Kubernetes//Pod/shop/a",
    WEB,
    "shop/web2.shop.svc.cluster.local",
  ]);
  assert.equal(mesh.translator.authorizations().size, 0);
  mesh.remove(pod("a"));
  mesh.apply(namespace("shop", "mesh: on"));
  assert.equal(mesh.workload("shop/a"), undefined, "gone while hidden");
  assert.notEqual(mesh.service(WEB), undefined);
  mesh.remove(namespace("shop"));
  assert.equal(mesh.translator.addresses().size, 0);
});

test("another revision's Istio objects are not seen; Kubernetes' own and Gateways always are", () => {
  const meta = "labels: {istio.io/rev: canary}";
  const yaml =
    istio("AuthorizationPolicy", "p", "", { meta }) +
    istio("ServiceEntry", "s", "hosts: [a.example]", { meta }) +
    service("web", SPEC, meta);
  assert.equal(new TestMesh(yaml).translator.authorizations().size, 1);
  const mesh = new TestMesh(yaml, { revision: "stable" });
  assert.deepEqual([...mesh.translator.addresses().keys()], [WEB]);
  assert.equal(mesh.translator.authorizations().size, 0);
  const delta = mesh.apply(istio("AuthorizationPolicy", "p", ""));
  assert.deepEqual(delta.authorizations.updated, ["shop/p"]);
});

test("a new configuration sends only what comes out differently; a bad one changes nothing", () => {
  const mesh = new TestMesh(
    namespace("shop", "mesh: on") +
      pod("a") +
      service("web", SPEC) +
      istio("AuthorizationPolicy", "p", "", { meta: "labels: {istio.io/rev: other}" }),
    { revision: "mine" },
  );
  const t = mesh.translator;
  const set = (config: Partial<TranslateConfig>): MeshDelta =>
    t.reconfigure({ ...DEFAULT_CONFIG, ...config });
  assert.deepEqual(set({ trustDomain: "example.org" }), {
    addresses: { updated: ["Kubernetes//Pod/shop/a"], removed: [] },
    authorizations: { updated: ["shop/p"], removed: [] },
    waypointPolicies: { updated: [], removed: [] },
    services: [],
  });
  assert.throws(() =>
    set({ discoverySelectors: [{ matchExpressions: [{ key: "a", operator: "In" }] }] }),
  );
  assert.equal(mesh.workload("shop/a").trustDomain, "example.org");
  assert.deepEqual(
    set({ discoverySelectors: [{ matchLabels: { mesh: "off" } }] }).addresses.removed,
    ["Kubernetes//Pod/shop/a", WEB],
  );
  assert.deepEqual(set({ discoverySelectors: [{ matchLabels: { mesh: "on" } }] }).services, [WEB]);
  assert.deepEqual(mesh.apply(pod("a", { ip: "10.0.0.9" })).addresses.updated, [
    "Kubernetes//Pod/shop/a",
  ]);
});

/** Small worlds with everything that can refer to anything else, in variants. */
const POOL: readonly (readonly string[])[] = [
  ["", "istio.io/use-waypoint: wp", "istio.io/use-waypoint: all, mesh: on", "mesh: on"].map((l) =>
    namespace("shop", l),
  ),
  [namespace("infra", "mesh: on"), namespace("infra", "istio.io/use-waypoint: all")],
  [
    namespace("istio-system", "mesh: on"),
    namespace("istio-system", "mesh: on, topology.istio.io/network: n1"),
  ],
  ["app: web", "app: db, istio.io/use-waypoint: all", ""].map((labels) => pod("a", { labels })),
  ["10.0.0.2", "10.0.0.3"].map((ip) => pod("b", { ip, extra: "  nodeName: n1\n" })),
  [
    pod("c", { ns: "infra", labels: "gateway.networking.k8s.io/gateway-name: wp" }),
    pod("c", { ns: "infra", extra: "  hostNetwork: true\n" }),
  ],
  [
    SPEC,
    "clusterIP: None, selector: {app: db}",
    "type: ExternalName",
    "clusterIP: 10.1.0.1, ports: [{name: a, port: 1}]",
  ].map((spec) => service("web", spec)),
  [
    "",
    "labels: {istio.io/use-waypoint: none}",
    "labels: {istio.io/use-waypoint: all, istio.io/use-waypoint-canary: wp}",
  ].map((meta) =>
    service(
      "db",
      "clusterIP: 10.1.0.2, selector: {app: db}, ports: [{port: 5432, targetPort: http}]",
      meta,
    ),
  ),
  ["192.0.2.1", "10.0.0.1"].map(
    (ip) =>
      `---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s, namespace: shop, labels: {kubernetes.io/service-name: web}}\naddressType: IPv4\nports: [{name: a, port: 2}]\nendpoints: [{addresses: [${ip}]}, {addresses: [10.0.0.1], targetRef: {kind: Pod, namespace: shop, name: a, uid: uid-a}}]\n`,
  ),
  [
    "hosts: [web.shop.svc.cluster.local, x.example], resolution: DNS, ports: [{number: 80, name: http}]",
    "hosts: [x.example], resolution: STATIC, endpoints: [{address: 10.7.0.1}, {address: 10.7.0.1}]",
    "hosts: ['*.x.example'], workloadSelector: {labels: {app: web}}",
  ].map((spec) => istio("ServiceEntry", "se", spec)),
  ["2020-01-01T00:00:00Z", "2030-01-01T00:00:00Z"].map((time) =>
    istio("ServiceEntry", "rival", "hosts: [x.example]", {
      ns: "infra",
      meta: `creationTimestamp: '${time}'`,
    }),
  ),
  ["labels: {app: web}", "labels: {app: db}, network: far"].map((labels) =>
    istio("WorkloadEntry", "vm", `address: 10.8.0.1, ${labels}`),
  ),
  [
    "selector: {matchLabels: {app: web}}, rules: [{}]",
    "rules: [{from: [{source: {namespaces: [a]}}]}]",
    "targetRefs: [{group: '', kind: Service, name: web}]",
    "selector: {matchLabels: {app: db}}, action: DENY",
  ].map((spec) => istio("AuthorizationPolicy", "p", spec)),
  ["selector: {matchLabels: {app: web}}", ""].map((spec) =>
    istio("AuthorizationPolicy", "root", spec, { ns: "istio-system" }),
  ),
  ["STRICT", "PERMISSIVE", "UNSET"].map((mode) =>
    istio("PeerAuthentication", "mesh", `mtls: {mode: ${mode}}`, { ns: "istio-system" }),
  ),
  [
    "mtls: {mode: STRICT}",
    "mtls: {mode: PERMISSIVE}, selector: {matchLabels: {app: web}}, portLevelMtls: {'80': {mode: STRICT}}",
    "selector: {matchLabels: {app: db}}, portLevelMtls: {'80': {mode: DISABLE}}",
  ].map((spec) => istio("PeerAuthentication", "pa", spec)),
  [
    gateway("wp"),
    gateway("wp", { address: "" }),
    gateway("wp", {
      meta: "annotations: {ambient.istio.io/waypoint-inbound-binding: PROXY/15088}",
    }),
  ],
  [
    gateway("all", { meta: "labels: {istio.io/waypoint-for: all}" }),
    gateway("all", { meta: "labels: {istio.io/waypoint-for: workload}" }),
  ],
  [gateway("wp", { ns: "infra", from: "{from: All}" })],
  ["z1", "z2"].map(
    (zone) =>
      `---\napiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {topology.kubernetes.io/zone: ${zone}}}\n`,
  ),
];
const CONFIGS: readonly Partial<TranslateConfig>[] = [
  {},
  { discoverySelectors: [{ matchLabels: { mesh: "on" } }], autoAllowWaypointPolicy: true },
  {
    trustDomain: "example.org",
    serviceEntryVisibility: { defaultVisibility: "NAMESPACE", policies: [] },
  },
];

function change(object: KubeObject, type: ObjectChange["type"]): ObjectChange {
  const resource = resourceOf(object);
  assert.notEqual(resource, null);
  return { resource: resource as ObjectChange["resource"], type, object };
}

function everything(t: MeshTranslator): Record<string, unknown> {
  const names = [...t.addresses().keys()];
  return {
    addresses: t.addresses(),
    authorizations: t.authorizations(),
    waypointPolicies: t.waypointPolicies(),
    conditions: t.conditions(),
    members: new Map(
      names.map((n) => [n, [t.workloadsOfService(n), t.servicesOfWorkload(n), t.aliases(n)]]),
    ),
  };
}

/** What a client would hold that got every delta. */
function replay({ addresses }: MeshDelta, t: MeshTranslator, mirror: Map<string, string>): void {
  for (const name of addresses.removed) assert.ok(mirror.delete(name), `${name} was not there`);
  for (const name of addresses.updated) {
    const version = t.addresses().get(name)?.version ?? "";
    assert.notEqual(mirror.get(name), version, `${name} did not change`);
    mirror.set(name, version);
  }
}

test("any sequence of changes ends where a fresh start would, byte for byte, and deltas add up", () => {
  const objects = POOL.map((variants) =>
    variants.map((yaml) => parseManifest(yaml, "pool.yaml").objects[0] as KubeObject),
  );
  let seed = 20_260_801;
  const random = (n: number): number => {
    seed = (Math.imul(seed, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((seed / 2 ** 32) * n);
  };
  const end = performance.now() + 3_000;
  let compared = 0;
  while (performance.now() < end && compared < 400) {
    const start = seed;
    let config = { ...DEFAULT_CONFIG, ...CONFIGS[random(CONFIGS.length)] };
    const t = new MeshTranslator(config);
    const live = new Map<number, KubeObject>();
    const mirror = new Map<string, string>();
    for (let step = 0; step < 12; step++) {
      const batch: ObjectChange[] = [];
      for (let n = random(6) + (step === 0 ? 15 : 1); n > 0; n--) {
        const at = random(objects.length);
        const known = live.get(at);
        const next = objects[at]?.[random(objects[at]?.length ?? 0)] as KubeObject;
        if (known !== undefined && random(4) === 0) {
          live.delete(at);
          batch.push(change(known, "deleted"));
        } else {
          live.set(at, next);
          batch.push(change(next, known === undefined ? "added" : "modified"));
        }
      }
      replay(t.update(batch), t, mirror);
      if (random(8) === 0) {
        config = { ...DEFAULT_CONFIG, ...CONFIGS[random(CONFIGS.length)] };
        replay(t.reconfigure(config), t, mirror);
      }
    }
    const fresh = new MeshTranslator(config);
    fresh.update([...live.values()].map((object) => change(object, "added")));
    assert.deepEqual(everything(t), everything(fresh), `seed ${start}`);
    const versions = new Map([...t.addresses()].map(([name, r]) => [name, r.version]));
    assert.deepEqual(mirror, versions, `seed ${start}`);
    assert.deepEqual(t.takeFaults(), []);
    compared++;
  }
  assert.ok(compared >= 20, `only ${compared} worlds in time`);
});

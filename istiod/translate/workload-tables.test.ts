// Workloads of every source: which objects make one, and each field's rule.
import assert from "node:assert/strict";
import { test } from "node:test";
import { istio, namespace, pod, service, TestMesh } from "./test-mesh.ts";

const WEB = "shop/web.shop.svc.cluster.local";

function raw(status: string, meta = "", spec = ""): string {
  return `---
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: shop, uid: uid-p${meta === "" ? "" : `, ${meta}`}}
spec: {nodeName: n1, serviceAccountName: sa${spec === "" ? "" : `, ${spec}`}}
status: {${status}}
`;
}

const READY = "conditions: [{type: Ready, status: 'True'}]";

test("a Pod is there from its first address to its end, and healthy while ready and not deleted", () => {
  const mesh = new TestMesh(raw("phase: Pending"));
  assert.equal(mesh.workload("shop/p"), undefined);
  mesh.apply(raw("phase: Pending, podIP: 10.0.0.1"));
  assert.equal(mesh.workload("shop/p").status, "UNHEALTHY");
  mesh.apply(raw(`phase: Running, podIP: 10.0.0.1, ${READY}`));
  assert.equal(mesh.workload("shop/p").status, undefined);
  mesh.apply(
    raw(`phase: Running, podIP: 10.0.0.1, ${READY}`, "deletionTimestamp: '2026-01-01T00:00:00Z'"),
  );
  assert.equal(mesh.workload("shop/p").status, "UNHEALTHY");
  for (const phase of ["Succeeded", "Failed"]) {
    mesh.apply(raw(`phase: Running, podIP: 10.0.0.1, ${READY}`));
    const delta = mesh.apply(raw(`phase: ${phase}, podIP: 10.0.0.1, ${READY}`));
    assert.deepEqual(delta.addresses.removed, ["Kubernetes//Pod/shop/p"]);
  }
  mesh.apply(raw("phase: Running, podIPs: [{ip: 10.0.0.1}, {ip: nonsense}]"));
  assert.equal(mesh.workload("shop/p"), undefined);
});

test("removing the redirection annotation turns HBONE off and changes nothing else", () => {
  const on = "annotations: {ambient.istio.io/redirection: enabled}";
  const mesh = new TestMesh(raw(`podIP: 10.0.0.1, ${READY}`, on));
  const { tunnelProtocol, ...rest } = mesh.workload("shop/p");
  assert.equal(tunnelProtocol, "HBONE");
  mesh.apply(
    raw(`podIP: 10.0.0.1, ${READY}`, "annotations: {ambient.istio.io/redirection: pending}"),
  );
  assert.deepEqual(mesh.workload("shop/p"), rest);
  mesh.apply(raw(`podIP: 10.0.0.1, ${READY}`, "labels: {networking.istio.io/tunnel: http}"));
  assert.equal(mesh.workload("shop/p").nativeTunnel, true);
});

const NAMES = [
  { meta: "", want: "p" },
  {
    meta: "generateName: web-, ownerReferences: [{kind: ReplicaSet, name: web-abc, controller: true}], labels: {pod-template-hash: abc}",
    want: "web",
  },
  {
    meta: "generateName: web-, ownerReferences: [{kind: ReplicaSet, name: ro-xyz, controller: true}], labels: {rollouts-pod-template-hash: xyz}",
    want: "ro",
  },
  {
    meta: "generateName: web-, ownerReferences: [{kind: ReplicaSet, name: bare, controller: true}]",
    want: "bare",
  },
  {
    meta: "generateName: web-, ownerReferences: [{kind: ReplicaSet, name: no, controller: false}]",
    want: "p",
  },
  {
    meta: "ownerReferences: [{kind: ReplicaSet, name: web-abc, controller: true}], labels: {pod-template-hash: abc}",
    want: "p",
  },
  {
    meta: "generateName: j-, ownerReferences: [{kind: Job, name: nightly-28493220, controller: true}]",
    want: "nightly",
  },
  {
    meta: "generateName: j-, ownerReferences: [{kind: Job, name: once, controller: true}]",
    want: "once",
  },
  {
    meta: "generateName: j-, ownerReferences: [{kind: ReplicationController, name: dc-1, controller: true}], labels: {deploymentconfig: dc}",
    want: "dc",
  },
  {
    meta: "generateName: s-, ownerReferences: [{kind: StatefulSet, name: db, controller: true}]",
    want: "db",
  },
  {
    meta: "generateName: s-, ownerReferences: [{kind: StatefulSet, name: db, controller: true}], labels: {service.istio.io/workload-name: mine}",
    want: "mine",
  },
];
for (const { meta, want } of NAMES)
  test(`workload name ${want} of {${meta}}`, () => {
    const mesh = new TestMesh(raw(`podIP: 10.0.0.1, ${READY}`, meta));
    assert.equal(mesh.workload("shop/p").workloadName, want);
    assert.equal(mesh.workload("shop/p").canonicalName, want);
  });

test("trust domain is empty for cluster.local and set otherwise; network comes from the system namespace", () => {
  const mesh = new TestMesh(pod("a"), { trustDomain: "example.org" });
  assert.equal(mesh.workload("shop/a").trustDomain, "example.org");
  const delta = mesh.apply(namespace("istio-system", "topology.istio.io/network: net-1"));
  assert.deepEqual(delta.addresses.updated, ["Kubernetes//Pod/shop/a"]);
  assert.equal(mesh.workload("shop/a").network, "net-1");
  assert.deepEqual(mesh.translator.lookup("net-1/10.0.0.1"), ["Kubernetes//Pod/shop/a"]);
});

test("named target ports are each Pod's own; a missing name drops that port only", () => {
  const mesh = new TestMesh(
    service(
      "web",
      "clusterIP: 10.1.0.1, selector: {app: web}, ports: [{name: a, port: 80, targetPort: http}, {name: b, port: 81, targetPort: 8081}, {name: c, port: 82, targetPort: side}, {name: d, port: 83, targetPort: dns}]",
    ) +
      pod("one") +
      pod("two", {
        ip: "10.0.0.2",
        extra:
          "  initContainers:\n  - {name: s, restartPolicy: Always, ports: [{name: side, containerPort: 9}]}\n  - {name: i, ports: [{name: dns, containerPort: 1}]}\n",
      }),
  );
  assert.deepEqual(mesh.workload("shop/one").services[WEB].ports, [
    { servicePort: 80, targetPort: 8080 },
    { servicePort: 81, targetPort: 8081 },
  ]);
  assert.deepEqual(
    mesh
      .workload("shop/two")
      .services[WEB].ports.map((p: { servicePort: number }) => p.servicePort),
    [80, 81, 82],
  );
  mesh.apply(
    service(
      "web",
      "clusterIP: 10.1.0.1, selector: {app: web}, ports: [{port: 80, targetPort: nowhere}]",
    ),
  );
  assert.deepEqual(mesh.workload("shop/one").services, { [WEB]: {} });
});

function slice(name: string, endpoints: string, extra = "addressType: IPv4"): string {
  return `---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: ${name}, namespace: shop, labels: {kubernetes.io/service-name: web}}
${extra}
ports: [{name: a, port: 7000}, {name: udp, port: 1, protocol: UDP}]
endpoints: [${endpoints}]
`;
}

test("a slice joins the Pod it names, kind, name and uid all agreeing; other endpoints are their own", () => {
  const ref = (uid: string): string =>
    `targetRef: {kind: Pod, name: a, namespace: shop, uid: ${uid}}`;
  const mesh = new TestMesh(
    service("web", "clusterIP: 10.1.0.1, ports: [{name: a, port: 80, targetPort: 8080}]") +
      pod("a") +
      slice(
        "web-1",
        `{addresses: [10.0.0.1], ${ref("uid-a")}}, {addresses: [192.0.2.1], conditions: {ready: false}}, {addresses: [192.0.2.2]}, {addresses: [nonsense]}`,
      ),
  );
  assert.deepEqual(mesh.workload("shop/a").services, {
    [WEB]: { ports: [{ servicePort: 80, targetPort: 8080 }] },
  });
  const uid = "Kubernetes/discovery.k8s.io/EndpointSlice/shop/web-1/192.0.2.1";
  assert.deepEqual(mesh.workload(uid), {
    name: "web-1",
    namespace: "shop",
    addresses: ["192.0.2.1"],
    status: "UNHEALTHY",
    clusterId: "Kubernetes",
    uid,
    networkMode: "HOST_NETWORK",
    services: { [WEB]: { ports: [{ servicePort: 80, targetPort: 7000 }] } },
  });
  assert.equal(mesh.workload(uid.replace(".1", ".2").replace("0.2.1", "0.2.2"))?.status, undefined);
  mesh.apply(slice("web-1", `{addresses: [10.0.0.1], ${ref("other")}}`));
  assert.equal(mesh.workload("shop/a").services, undefined);
  assert.equal(mesh.workload(uid), undefined);
  mesh.apply(slice("web-1", "{addresses: [192.0.2.1]}"));
  assert.notEqual(mesh.workload(uid), undefined);
  mesh.remove(service("web", ""));
  assert.equal(mesh.workload(uid), undefined);
  mesh.apply(
    service("web", "clusterIP: 10.1.0.1") +
      slice("web-1", "{addresses: [example.org]}", "addressType: FQDN"),
  );
  assert.equal(
    [...mesh.translator.addresses().keys()].filter((k) => k.includes("EndpointSlice")).length,
    0,
  );
});

test("WorkloadEntry: address or host, labels merged, ports by name, weight and locality", () => {
  const spec =
    "address: 10.5.0.1, labels: {app: web, a: spec}, ports: {http: 9000, admin: 9001}, network: far, locality: r/z/s, weight: 3, serviceAccount: vm";
  const mesh = new TestMesh(
    istio("WorkloadEntry", "vm", spec, {
      meta: "labels: {a: meta}, annotations: {istio.io/autoRegistrationGroup: fleet}",
    }) +
      service(
        "web",
        "clusterIP: 10.1.0.1, selector: {app: web, a: meta}, ports: [{name: x, port: 80, targetPort: http}, {name: admin, port: 81, targetPort: 1}, {name: y, port: 82, targetPort: none}, {name: z, port: 83, targetPort: 5}]",
      ) +
      istio(
        "ServiceEntry",
        "se",
        "hosts: [db.example], ports: [{number: 5432, name: admin, targetPort: 6}, {number: 1, name: q}], workloadSelector: {labels: {app: web}}",
      ),
  );
  const uid = "Kubernetes/networking.istio.io/WorkloadEntry/shop/vm";
  assert.deepEqual(mesh.workload(uid), {
    name: "vm",
    namespace: "shop",
    addresses: ["10.5.0.1"],
    network: "far",
    serviceAccount: "vm",
    canonicalName: "web",
    canonicalRevision: "latest",
    workloadType: "POD",
    workloadName: "fleet",
    clusterId: "Kubernetes",
    uid,
    services: {
      "shop/db.example": {
        ports: [
          { servicePort: 5432, targetPort: 9001 },
          { servicePort: 1, targetPort: 1 },
        ],
      },
      [WEB]: {
        ports: [
          { servicePort: 80, targetPort: 9000 },
          { servicePort: 81, targetPort: 9001 },
          { servicePort: 83, targetPort: 5 },
        ],
      },
    },
    locality: { region: "r", zone: "z", subzone: "s" },
    capacity: 3,
  });
  mesh.apply(istio("WorkloadEntry", "vm", "address: vm.example.org"));
  assert.equal(mesh.workload(uid).hostname, "vm.example.org");
  assert.equal(mesh.workload(uid).addresses, undefined);
  mesh.apply(istio("WorkloadEntry", "vm", ""));
  assert.notEqual(mesh.workload(uid), undefined);
});

test("ServiceEntry endpoints: inline ones, or the hosts themselves under DNS", () => {
  const mesh = new TestMesh(
    istio(
      "ServiceEntry",
      "se",
      "hosts: [a.example, b.example], resolution: STATIC, ports: [{number: 80, name: http, targetPort: 81}], endpoints: [{address: 10.5.0.1, network: far, serviceAccount: x}, {address: 10.5.0.2, ports: {http: 99}, labels: {app: e}, weight: 2}]",
      { meta: "labels: {app: entry, version: v2}" },
    ),
  );
  const base = "Kubernetes/networking.istio.io/ServiceEntry/shop/se";
  const one = mesh.workload(`${base}/10.5.0.1`);
  assert.deepEqual(
    [one.network, one.serviceAccount, one.canonicalName, one.canonicalRevision],
    ["far", "x", "entry", "v2"],
  );
  assert.deepEqual(Object.keys(one.services), ["shop/a.example", "shop/b.example"]);
  const two = mesh.workload(`${base}/10.5.0.2`);
  assert.equal(two.network, undefined, "a network stays with its endpoint");
  assert.deepEqual(two.services["shop/a.example"].ports, [{ servicePort: 80, targetPort: 99 }]);
  assert.equal(two.capacity, 2);
  mesh.apply(
    istio(
      "ServiceEntry",
      "se",
      "hosts: [a.example, b.example], resolution: DNS_ROUND_ROBIN, ports: [{number: 80, name: http}]",
    ),
  );
  assert.deepEqual(mesh.workload(`${base}/a.example`).services, {
    "shop/a.example": { ports: [{ servicePort: 80, targetPort: 80 }] },
  });
  assert.equal(mesh.workload(`${base}/b.example`).hostname, "b.example");
  const older = istio(
    "ServiceEntry",
    "older",
    "hosts: [a.example, b.example], resolution: STATIC",
    { meta: "creationTimestamp: '2020-01-01T00:00:00Z'" },
  );
  mesh.apply(
    istio("ServiceEntry", "se", "hosts: [a.example], resolution: DNS", {
      meta: "creationTimestamp: '2021-01-01T00:00:00Z'",
    }) + older,
  );
  assert.equal(
    mesh.workload(`${base}/a.example`),
    undefined,
    "an entry that lost every host has no endpoints",
  );
  mesh.remove(older);
  assert.notEqual(mesh.workload(`${base}/a.example`), undefined);
});

test("a Pod's ServiceEntry port goes by container port name first", () => {
  const mesh = new TestMesh(
    pod("a") +
      istio(
        "ServiceEntry",
        "se",
        "hosts: [a.example], ports: [{number: 80, name: http, targetPort: 81}, {number: 90, name: other, targetPort: 91}], workloadSelector: {labels: {app: web}}",
      ),
  );
  assert.deepEqual(mesh.workload("shop/a").services["shop/a.example"].ports, [
    { servicePort: 80, targetPort: 8080 },
    { servicePort: 90, targetPort: 91 },
  ]);
  assert.equal(
    new TestMesh(
      pod("a") +
        istio("ServiceEntry", "se", "hosts: [a.example], workloadSelector: {labels: {app: web}}"),
      { serviceEntriesSelectPods: false },
    ).workload("shop/a").services,
    undefined,
  );
});

test("an empty selector selects nothing", () => {
  const mesh = new TestMesh(pod("a") + service("web", "clusterIP: 10.1.0.1, ports: [{port: 80}]"));
  assert.equal(mesh.workload("shop/a").services, undefined);
});

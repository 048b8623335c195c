import assert from "node:assert/strict";
import { test } from "node:test";
import { parseIp } from "../net/ip.ts";
import {
  Address,
  Service as ServiceMessage,
  Workload as WorkloadMessage,
} from "../wire/gen/workload.gen.ts";
import { MeshTables } from "./tables.ts";
import {
  byHostname,
  cidrVips,
  ips,
  mesh,
  policy,
  serves,
  service,
  vips,
  workload,
} from "./test-mesh.ts";
import type { Service } from "./service.ts";

const KEY = "ns/web.ns.svc.cluster.local";
const WEB = service("web", { vips: vips("10.96.0.5") });
const POD = workload("pod", { addresses: ips("10.0.2.4"), services: serves(KEY) });

const names = (tables: MeshTables, s: Service = WEB) => [...tables.endpoints(s)].map((w) => w.name);
const allowAll = (s: Service): Service => ({
  ...s,
  loadBalancing: { ...s.loadBalancing, healthPolicy: "AllowAll" },
});

test("a workload may come before its service", () => {
  const tables = new MeshTables();
  tables.putWorkload(POD);
  assert.deepEqual(
    [...tables.stagedServices()].map(([key, w]) => [key, w.size]),
    [[KEY, 1]],
  );
  tables.putService(WEB);
  assert.deepEqual(names(tables), ["pod"]);
  assert.deepEqual([...tables.stagedServices()], []);
});

test("a staged workload that goes away, or leaves the service, does not come back", () => {
  const tables = new MeshTables();
  tables.putWorkload(POD);
  tables.putWorkload({ ...POD, services: new Map() });
  tables.putService(WEB);
  assert.deepEqual(names(tables), []);
  assert.deepEqual([...tables.stagedServices()], []);
});

test("a re-sent workload replaces itself", () => {
  const tables = mesh({ services: [WEB], workloads: [POD] });
  tables.putWorkload({ ...POD, addresses: ips("10.0.2.5") });
  assert.equal(tables.findWorkload("net1", parseIp("10.0.2.4")), null);
  assert.equal(tables.findWorkload("net1", parseIp("10.0.2.5"))?.name, "pod");
  assert.equal(tables.workloadCount, 1);
  assert.equal(tables.endpoints(WEB).size, 1);
});

// Health is decided at insertion: what a policy refused is gone until its workload is sent again.
test("an unhealthy endpoint is not stored, and relaxing the policy does not resurrect it", () => {
  const sick = workload("sick", { status: "Unhealthy", services: serves(KEY) });
  const tables = mesh({ services: [WEB], workloads: [POD, sick] });
  assert.deepEqual(names(tables), ["pod"]);
  tables.putService(allowAll(WEB));
  assert.deepEqual(names(tables), ["pod"]);
  tables.putWorkload(sick);
  assert.deepEqual(names(tables), ["pod", "sick"]);
});

test("tightening the policy drops unhealthy endpoints, keeping the rest", () => {
  const sick = workload("sick", { status: "Unhealthy", services: serves(KEY) });
  const tables = mesh({ services: [allowAll(WEB)], workloads: [POD, sick] });
  assert.deepEqual(names(tables), ["pod", "sick"]);
  tables.putService(WEB);
  assert.deepEqual(names(tables), ["pod"]);
});

test("staged endpoints pass the health policy when their service comes", () => {
  const sick = workload("sick", { status: "Unhealthy", services: serves(KEY) });
  const tables = mesh({ workloads: [POD, sick] });
  tables.putService(WEB);
  assert.deepEqual(names(tables), ["pod"]);
});

test("health transitions of a re-sent workload", () => {
  const tables = mesh({ services: [WEB], workloads: [POD] });
  tables.putWorkload({ ...POD, status: "Unhealthy" });
  assert.deepEqual(names(tables), []);
  assert.equal(
    tables.findWorkload("net1", parseIp("10.0.2.4"))?.status,
    "Unhealthy",
    "still dialled directly",
  );
  tables.putWorkload(POD);
  assert.deepEqual(names(tables), ["pod"]);
});

test("a removed service forgets its endpoints until their workloads come again", () => {
  const tables = mesh({ services: [WEB], workloads: [POD] });
  assert.deepEqual(tables.apply([{ op: "remove-address", name: KEY }]), []);
  assert.equal(tables.serviceAt("net1", parseIp("10.96.0.5"), "ns"), null);
  tables.putService(WEB);
  assert.deepEqual(names(tables), []);
  tables.putWorkload(POD);
  assert.deepEqual(names(tables), ["pod"]);
});

test("removal by name: uid first, then namespace/hostname; other names are harmless", () => {
  const odd = workload("odd", { uid: KEY });
  const tables = mesh({ services: [WEB], workloads: [POD, odd] });
  const remove = (...removed: string[]) =>
    tables.apply(removed.map((name) => ({ op: "remove-address", name })));
  remove("nothing", "ns/web.ns.svc.cluster.local/extra", "", "a/b");
  assert.deepEqual([tables.workloadCount, tables.serviceCount], [2, 1]);
  remove(KEY);
  assert.deepEqual([tables.workloadCount, tables.serviceCount], [1, 1], "a uid of that text wins");
  remove(KEY);
  assert.deepEqual([tables.workloadCount, tables.serviceCount], [1, 0]);
  remove(POD.uid);
  assert.equal(tables.workloadCount, 0);
  assert.equal(tables.findWorkload("net1", parseIp("10.0.2.4")), null);
});

// Several workloads on one (network, IP).
{
  const at = { addresses: ips("10.0.2.4") };
  const podHbone = workload("pod-hbone", at);
  const podTcp = workload("pod-tcp", { ...at, protocol: "TCP" });
  const entryHbone = workload("entry-hbone", {
    ...at,
    uid: "c/networking.istio.io/WorkloadEntry/ns/e",
  });
  const entryTcp = workload("entry-tcp", {
    ...at,
    uid: "c/networking.istio.io/WorkloadEntry/ns/f",
    protocol: "TCP",
  });
  const ranked = [podHbone, podTcp, entryHbone, entryTcp];
  const find = (tables: MeshTables) => tables.findWorkload("net1", parseIp("10.0.2.4"))?.name;
  for (const order of [ranked, ranked.toReversed(), [podTcp, entryTcp, podHbone, entryHbone]])
    test(`shared address, sent as ${order.map((w) => w.name).join(", ")}`, () => {
      const tables = mesh({ workloads: order });
      for (const w of ranked) {
        assert.equal(find(tables), w.name);
        tables.apply([{ op: "remove-address", name: w.uid }]);
      }
      assert.equal(find(tables), undefined);
    });
  test("of equal workloads at one address the latest wins", () => {
    const next = workload("pod-next", at);
    assert.equal(find(mesh({ workloads: [podHbone, next] })), "pod-next");
    assert.equal(find(mesh({ workloads: [next, podHbone] })), "pod-hbone");
  });
}

test("host-network workloads are not found by address", () => {
  const host = workload("host", {
    addresses: ips("10.0.1.20"),
    networkMode: "HostNetwork",
    services: serves(KEY),
  });
  const tables = mesh({ services: [WEB], workloads: [host] });
  assert.equal(tables.findWorkload("net1", parseIp("10.0.1.20")), null);
  assert.deepEqual(names(tables), ["host"], "yet they serve");
});

test("addresses live on their network", () => {
  const tables = mesh({
    workloads: [POD, workload("twin", { network: "net2", addresses: ips("10.0.2.4") })],
  });
  assert.equal(tables.findWorkload("net2", parseIp("10.0.2.4"))?.name, "twin");
  assert.equal(tables.findWorkload("", parseIp("10.0.2.4")), null);
});

// Which of several services a client means, by VIP and by host name alike.
{
  const at = { hostname: "db.example.com", vips: vips("240.240.0.1") };
  const mine = service("mine", { ...at, namespace: "me", canonical: false });
  const canonical = service("canonical", { ...at, namespace: "b", canonical: true });
  const preferred = service("preferred", { ...at, namespace: "pref", canonical: false });
  const first = service("first", { ...at, namespace: "a", canonical: false });
  const hidden = service("hidden", {
    ...at,
    namespace: "c",
    visibility: "Namespace",
    canonical: true,
  });
  for (const c of [
    { name: "own namespace first", set: [first, canonical, mine], want: "mine", dns: "mine" },
    {
      name: "then canonical",
      set: [first, preferred, canonical],
      want: "canonical",
      dns: "canonical",
    },
    {
      name: "then, for DNS, the preferred namespace",
      set: [first, preferred],
      want: "first",
      dns: "preferred",
    },
    { name: "then the first", set: [first], want: "first", dns: "first" },
    {
      name: "never one hidden in another namespace",
      set: [hidden, first],
      want: "first",
      dns: "first",
    },
    { name: "nothing visible is nothing", set: [hidden], want: undefined, dns: undefined },
  ])
    test(`best service: ${c.name}`, () => {
      const tables = mesh({ services: c.set });
      assert.equal(tables.serviceAt("net1", parseIp("240.240.0.1"), "me")?.name, c.want);
      assert.equal(tables.findServiceByHostname("db.example.com", "me", "pref")?.name, c.dns);
    });
  test("a namespace-visible service is seen from its own namespace and by those who see all", () => {
    const tables = mesh({ services: [hidden] });
    assert.equal(tables.serviceAt("net1", parseIp("240.240.0.1"), "c")?.name, "hidden");
    assert.equal(tables.serviceAt("net1", parseIp("240.240.0.1"), null)?.name, "hidden");
    assert.deepEqual(tables.servicesAt("net1", parseIp("240.240.0.1"), "me"), []);
  });
}

// Ranges: only when no exact VIP is visible; (same namespace, longest prefix, canonical).
for (const c of [
  {
    name: "an exact VIP wins over a longer story",
    set: [
      service("exact", { namespace: "z", canonical: false, vips: vips("10.97.0.1") }),
      service("range", { namespace: "me", cidrVips: cidrVips("10.97.0.0/16") }),
    ],
    want: "exact",
  },
  {
    name: "a hidden exact VIP gives way to a range",
    set: [
      service("exact", { namespace: "z", visibility: "Namespace", vips: vips("10.97.0.1") }),
      service("range", { namespace: "z", cidrVips: cidrVips("10.97.0.0/16") }),
    ],
    want: "range",
  },
  {
    name: "longest prefix",
    set: [
      service("wide", { namespace: "a", cidrVips: cidrVips("10.0.0.0/8") }),
      service("narrow", { namespace: "b", canonical: false, cidrVips: cidrVips("10.97.0.0/16") }),
    ],
    want: "narrow",
  },
  {
    name: "a shorter prefix in the client's namespace wins",
    set: [
      service("narrow", { namespace: "b", cidrVips: cidrVips("10.97.0.0/24") }),
      service("mine", { namespace: "me", canonical: false, cidrVips: cidrVips("10.0.0.0/8") }),
    ],
    want: "mine",
  },
  {
    name: "canonical breaks ties",
    set: [
      service("plain", { namespace: "a", canonical: false, cidrVips: cidrVips("10.97.0.0/16") }),
      service("canonical", { namespace: "b", cidrVips: cidrVips("10.97.0.0/16") }),
    ],
    want: "canonical",
  },
  {
    name: "outside",
    set: [service("out", { cidrVips: cidrVips("10.98.0.0/16") })],
    want: undefined,
  },
])
  test(`range VIP: ${c.name}`, () => {
    assert.equal(
      mesh({ services: c.set }).serviceAt("net1", parseIp("10.97.0.1"), "me")?.name,
      c.want,
    );
  });

test("a service that moves is found only where it is", () => {
  const tables = mesh({
    services: [{ ...WEB, cidrVips: cidrVips("10.97.0.0/16") }],
    workloads: [POD],
  });
  tables.putService({ ...WEB, vips: vips("10.96.0.6") });
  assert.equal(tables.serviceAt("net1", parseIp("10.96.0.5"), "ns"), null);
  assert.equal(tables.serviceAt("net1", parseIp("10.97.0.5"), "ns"), null);
  assert.equal(tables.serviceAt("net1", parseIp("10.96.0.6"), "ns")?.name, "web");
  assert.deepEqual(names(tables), ["pod"]);
});

test("what an address is: a workload first, then a service", () => {
  const tables = mesh({
    services: [WEB],
    workloads: [workload("both", { addresses: ips("10.96.0.5") })],
  });
  assert.equal(tables.findAddress("net1", parseIp("10.96.0.5"), "ns")?.kind, "workload");
  tables.apply([{ op: "remove-address", name: "Kubernetes//Pod/ns/both" }]);
  assert.equal(tables.findAddress("net1", parseIp("10.96.0.5"), "ns")?.kind, "service");
});

test("a gateway host name is a service, else a workload of that namespace", () => {
  const ref = byHostname("ns", "gw.example.com");
  const host = workload("gw", { hostname: "gw.example.com" });
  const tables = mesh({
    workloads: [host, workload("other", { namespace: "x", hostname: "gw.example.com" })],
  });
  const found = tables.resolveGateway(ref, "ns");
  assert.ok(found?.kind === "workload");
  assert.equal(found.workload.name, "gw");
  tables.putService(service("gw", { hostname: "gw.example.com" }));
  assert.equal(tables.resolveGateway(ref, "ns")?.kind, "service");
  assert.equal(tables.resolveGateway(byHostname("ns", "nobody"), "ns"), null);
});

test("a pod of this node is found by exact name, namespace and account", () => {
  const tables = new MeshTables({ node: "node-1" });
  tables.putWorkload(POD);
  tables.putWorkload(workload("away", { node: "node-2" }));
  const at = (name: string, serviceAccount = name, namespace = "ns") =>
    tables.localWorkload({ name, namespace, serviceAccount })?.name;
  assert.equal(at("pod"), "pod");
  assert.equal(at("pod", "other"), undefined);
  assert.equal(at("pod", "pod", "other"), undefined);
  assert.equal(at("away"), undefined);
  assert.deepEqual(
    [...tables.localWorkloads()].map((w) => w.name),
    ["pod"],
  );
  tables.putWorkload({ ...POD, node: "node-2" });
  assert.equal(at("pod"), undefined);
  const everywhere = mesh({ workloads: [workload("away", { node: "node-2" })] });
  assert.equal(
    everywhere.localWorkload({ name: "away", namespace: "ns", serviceAccount: "away" })?.name,
    "away",
  );
});

test("policies apply by namespace, globally, and by name", () => {
  const w = { ...POD, authorizationPolicies: ["other/named", "ns/gone"] };
  const tables = mesh({
    workloads: [w],
    policies: [
      policy("Allow", [], { name: "mine" }),
      policy("Allow", [], { name: "theirs", namespace: "other" }),
      policy("Deny", [], { name: "all", namespace: "istio-system", scope: "Global" }),
      policy("Deny", [], { name: "named", namespace: "other", scope: "WorkloadSelector" }),
      policy("Deny", [], { name: "unnamed", scope: "WorkloadSelector" }),
    ],
  });
  const set = tables.policiesFor(w);
  assert.deepEqual(
    set.allows.map((p) => p.key),
    ["ns/mine"],
  );
  assert.deepEqual(
    set.denies.map((p) => p.key),
    ["istio-system/all", "other/named"],
  );
  assert.deepEqual(set.unknown, ["ns/gone"]);
  assert.equal(tables.policiesFor(w), set, "built once");

  const before = tables.policyGeneration;
  tables.apply([
    { op: "remove-policy", name: "istio-system/all" },
    { op: "remove-policy", name: "no/such" },
  ]);
  assert.equal(tables.policyGeneration, before + 1);
  assert.deepEqual(
    tables.policiesFor(w).denies.map((p) => p.key),
    ["other/named"],
  );
  tables.putPolicy(policy("Allow", [], { name: "mine", scope: "WorkloadSelector" }));
  assert.deepEqual(tables.policiesFor(w).allows, [], "a re-sent policy leaves its old scope");
});

test("a malformed resource is reported, the rest applies, and the old value stays", () => {
  const encode = (uid: string, tunnelProtocol: 0 | 1 | 2) =>
    Address.encode(
      Address.create({
        type: {
          $case: "workload",
          value: WorkloadMessage.create({ uid, name: uid, tunnelProtocol }),
        },
      }),
    ).finish();
  const web = Address.encode(
    Address.create({
      type: {
        $case: "service",
        value: ServiceMessage.create({ namespace: "ns", hostname: "web" }),
      },
    }),
  ).finish();
  const tables = new MeshTables();
  assert.deepEqual(tables.apply([{ op: "address", name: "a", bytes: encode("a", 1) }]), []);
  const rejected = tables.apply([
    { op: "address", name: "a", bytes: encode("a", 2) },
    { op: "address", name: "junk", bytes: Uint8Array.of(0xff) },
    { op: "address", name: "ns/web", bytes: web },
    { op: "policy", name: "ns/p", bytes: Uint8Array.of(0x18, 9) },
  ]);
  assert.deepEqual(
    rejected.map((r) => r.name),
    ["a", "junk", "ns/p"],
  );
  assert.match(rejected[0]?.reason ?? "", /LEGACY_ISTIO_MTLS/);
  assert.equal(tables.workloadByUid("a")?.protocol, "HBONE");
  assert.equal(tables.findService("ns", "web")?.hostname, "web");
});

test("indexes are empty again when everything is gone", () => {
  const tables = mesh({ services: [WEB], workloads: [POD], policies: [policy("Allow", [])] });
  tables.apply([
    { op: "remove-address", name: POD.uid },
    { op: "remove-address", name: KEY },
    { op: "remove-policy", name: "ns/allow" },
  ]);
  assert.deepEqual([tables.workloadCount, tables.serviceCount, tables.policyCount], [0, 0, 0]);
  assert.equal(tables.findAddress("net1", parseIp("10.0.2.4"), "ns"), null);
  assert.equal(tables.findServiceByHostname(WEB.hostname, "ns"), null);
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { cidrVips, ips, mesh, service, serves, vips, workload } from "#lib/model/test-mesh.ts";
import { parseIp } from "#lib/net/ip.ts";
import { RECORD_TYPE } from "#lib/wire/dns.ts";
import { candidates, resolve, wildcards, type DnsSettings } from "./resolve.ts";

const SETTINGS: DnsSettings = {
  clusterDomain: "cluster.local",
  preferredNamespace: null,
  ipv6Enabled: true,
};
const CLIENT = { namespace: "shop", network: "net1" };
const D = "cluster.local";

const TABLES = mesh({
  services: [
    service("cart", { namespace: "shop", vips: vips("10.96.0.5", "fd00::5") }),
    service("cart", { namespace: "other", vips: vips("10.96.0.6") }),
    service("v4", {
      namespace: "shop",
      vips: vips("10.96.0.7", "fd00::7"),
      ipFamilies: "IPv4Only",
    }),
    service("v6", {
      namespace: "shop",
      vips: vips("10.96.0.8", "fd00::8"),
      ipFamilies: "IPv6Only",
    }),
    service("db", { namespace: "shop" }),
    service("lone", { namespace: "shop" }),
    service("far", { namespace: "shop", vips: [{ network: "net2", ip: parseIp("10.96.0.9") }] }),
    service("secret", { namespace: "other", vips: vips("10.96.0.10"), visibility: "Namespace" }),
    service("range", {
      namespace: "shop",
      hostname: "range.example",
      cidrVips: cidrVips("10.1.0.0/16"),
    }),
    service("ext", { namespace: "shop", hostname: "api.example.com", vips: vips("240.240.0.1") }),
    service("wild", { namespace: "shop", hostname: "*.example.com", vips: vips("240.240.0.2") }),
    service("none", { namespace: "shop", hostname: "novip.example" }),
    service("a", {
      namespace: "one",
      hostname: "twice.example",
      vips: vips("240.0.0.1"),
      canonical: false,
    }),
    service("b", {
      namespace: "two",
      hostname: "twice.example",
      vips: vips("240.0.0.2"),
      canonical: false,
    }),
    service("sub", {
      namespace: "shop",
      hostname: "*.wild.shop.svc.cluster.local",
      vips: vips("240.0.0.3"),
    }),
  ],
  workloads: [
    workload("db-0", {
      namespace: "shop",
      addresses: ips("10.1.1.1", "fd01::1"),
      services: serves("shop/db.shop.svc.cluster.local"),
    }),
    workload("db-1", {
      namespace: "shop",
      addresses: ips("10.1.1.2"),
      services: serves("shop/db.shop.svc.cluster.local"),
    }),
    workload("db-2", {
      namespace: "shop",
      addresses: ips("10.1.1.3"),
      status: "Unhealthy",
      services: serves("shop/db.shop.svc.cluster.local"),
    }),
  ],
});

/** `forward`, or the records as text: `name A ip`, `name CNAME target`. */
function ask(
  name: string,
  type: "A" | "AAAA",
  settings = SETTINGS,
  client = CLIENT,
): string[] | string {
  const found = resolve(
    TABLES,
    client,
    { name, type: RECORD_TYPE[type], class: 1 },
    settings,
    () => 0.999, // keeps the order
  );
  if (found.kind === "forward") return "forward";
  for (const answer of found.answers) assert.equal(answer.ttlSeconds, 30);
  return found.answers.map((a) =>
    a.kind === "cname" ? `${a.name} CNAME ${a.target}` : `${a.name} ${type} ${a.ip}`,
  );
}

test("candidate names are expanded by their number of labels", () => {
  const names = (q: string): string[] =>
    candidates(q, "shop", D).map((c) =>
      c.stripped === null ? c.name : `${c.name} (${c.stripped})`,
    );
  assert.deepEqual(names("cart"), ["cart", "cart.shop.svc.cluster.local"]);
  assert.deepEqual(names("cart.other"), [
    "cart.other",
    "cart.other.svc.cluster.local",
    "cart.other.shop.svc.cluster.local",
  ]);
  assert.deepEqual(names("cart.other.svc"), [
    "cart.other.svc",
    "cart.other.svc.cluster.local",
    "cart.other.svc.svc.cluster.local",
  ]);
  assert.deepEqual(names("pod.cart.other.svc"), [
    "pod.cart.other.svc",
    "pod.cart.other.svc.cluster.local",
  ]);
  assert.deepEqual(names("a.b.c.d"), ["a.b.c.d"]);
  assert.deepEqual(names("cart.shop.svc.cluster.local"), [
    "cart.shop.svc.cluster.local",
    "cart (cart)",
    "cart.shop (cart.shop)",
    "cart.shop.shop.svc.cluster.local (cart.shop)",
    "cart.shop.svc (cart.shop.svc)",
    "cart.shop.svc.svc.cluster.local (cart.shop.svc)",
  ]);
});

test("wildcards go from most to least specific", () => {
  assert.deepEqual([...wildcards("a.b.c")], ["a.b.c", "*.b.c", "*.c"]);
  assert.deepEqual([...wildcards("a")], ["a"]);
});

for (const c of [
  {
    q: `cart.shop.svc.${D}`,
    A: [`cart.shop.svc.${D} A 10.96.0.5`],
    AAAA: [`cart.shop.svc.${D} AAAA fd00::5`],
  },
  { q: "cart", A: ["cart A 10.96.0.5"] },
  { q: "cart.shop", A: ["cart.shop A 10.96.0.5"] },
  { q: "cart.other", A: ["cart.other A 10.96.0.6"], AAAA: [] },
  { q: "cart.other.svc", A: ["cart.other.svc A 10.96.0.6"] },
  // a resolver that appends search domains before trying the name itself
  {
    q: `cart.other.shop.svc.${D}`,
    A: [`cart.other.shop.svc.${D} CNAME cart.other`, "cart.other A 10.96.0.6"],
  },
  {
    q: `api.example.com.shop.svc.${D}`,
    A: [`api.example.com.shop.svc.${D} CNAME api.example.com`, "api.example.com A 240.240.0.1"],
    AAAA: [],
  },
  {
    q: `api.example.com.${D}`,
    A: [`api.example.com.${D} CNAME api.example.com`, "api.example.com A 240.240.0.1"],
  },
  { q: "api.example.com", A: ["api.example.com A 240.240.0.1"], AAAA: [] },
  { q: "x.example.com", A: ["x.example.com A 240.240.0.2"] },
  { q: "y.x.example.com", A: ["y.x.example.com A 240.240.0.2"] },
  { q: `x.example.com.shop.svc.${D}`, A: [`x.example.com.shop.svc.${D} A 240.240.0.2`] },
  { q: "example.com", A: "forward", AAAA: "forward" },
  { q: `deep.wild.shop.svc.${D}`, A: [`deep.wild.shop.svc.${D} A 240.0.0.3`] },
  { q: "v4", A: ["v4 A 10.96.0.7"], AAAA: [] },
  { q: "v6", A: [], AAAA: ["v6 AAAA fd00::8"] },
  { q: "db", A: ["db A 10.1.1.1", "db A 10.1.1.2"], AAAA: ["db AAAA fd01::1"] },
  { q: "lone", A: [], AAAA: [] },
  { q: "far", A: [], AAAA: [] },
  { q: `secret.other.svc.${D}`, A: "forward" },
  { q: "range.example", A: "forward" },
  { q: "novip.example", A: "forward" },
  { q: "twice.example", A: ["twice.example A 240.0.0.1"] },
  { q: "db-0", A: "forward" },
  { q: "", A: "forward" },
  { q: `nothing.shop.svc.${D}`, A: "forward", AAAA: "forward" },
  { q: D, A: "forward" },
] as { q: string; A?: string[] | string; AAAA?: string[] | string }[])
  for (const type of ["A", "AAAA"] as const) {
    const want = c[type];
    if (want === undefined) continue;
    test(`dns: ${type} ${JSON.stringify(c.q)}`, () => assert.deepEqual(ask(c.q, type), want));
  }

test("visibility follows the asking namespace", () => {
  assert.deepEqual(
    ask(`secret.other.svc.${D}`, "A", SETTINGS, { namespace: "other", network: "net1" }),
    [`secret.other.svc.${D} A 10.96.0.10`],
  );
});

test("the preferred namespace ranks before the first that came", () => {
  const settings = { ...SETTINGS, preferredNamespace: "two" };
  assert.deepEqual(ask("twice.example", "A", settings), ["twice.example A 240.0.0.2"]);
});

test("without IPv6 every AAAA of ours is empty, and strangers are forwarded", () => {
  const settings = { ...SETTINGS, ipv6Enabled: false };
  assert.deepEqual(ask("cart", "AAAA", settings), []);
  assert.equal(ask("example.org", "AAAA", settings), "forward");
});

test("other types and classes are forwarded", () => {
  for (const q of [
    { name: "cart", type: 33, class: 1 },
    { name: "cart", type: 255, class: 1 },
    { name: "cart", type: RECORD_TYPE.A, class: 3 },
  ])
    assert.equal(resolve(TABLES, CLIENT, q, SETTINGS, Math.random).kind, "forward");
});

test("addresses are shuffled", () => {
  const q = { name: "db", type: RECORD_TYPE.A, class: 1 };
  const found = resolve(TABLES, CLIENT, q, SETTINGS, () => 0);
  assert.deepEqual(
    found.kind === "answer" && found.answers.map((a) => (a.kind === "address" ? a.ip : "")),
    ["10.1.1.2", "10.1.1.1"],
  );
});

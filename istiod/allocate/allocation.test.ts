// Who gets which address, over manifests reduced as the translator reduces them.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseCidr } from "#lib/net/cidr.ts";
import type { Ip } from "#lib/net/ip.ts";
import type * as kube from "#lib/kube/objects.ts";
import type { ServiceEntry } from "../translate/objects.ts";
import { serviceEntry } from "../translate/reduce.ts";
import { AddressPool } from "./address-pool.ts";
import { Allocation, type Assigned } from "./allocation.ts";

const PREFIXES = { v4: parseCidr("240.240.0.0/16"), v6: parseCidr("2001:2::/48") };

interface Options {
  readonly hosts?: readonly string[];
  readonly addresses?: readonly string[];
  readonly resolution?: string;
  readonly at?: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** `host value`. */
  readonly status?: readonly string[];
}

function entry(name: string, o: Options = {}): ServiceEntry {
  const { hosts = [`${name}.example`], resolution = "DNS", at = "", labels = {} } = o;
  const manifest: kube.ServiceEntry = {
    apiVersion: "networking.istio.io/v1",
    kind: "ServiceEntry",
    metadata: { name, namespace: "shop", labels, creationTimestamp: at },
    spec: { hosts, addresses: o.addresses ?? [], resolution },
    status: {
      addresses: (o.status ?? []).map((text) => {
        const [host = "", value = ""] = text.split(" ");
        return { host, value };
      }),
    },
  };
  return serviceEntry(manifest);
}

const shown = (assigned: readonly Assigned[] = []): string[] =>
  assigned.map(({ host, ip }) => `${host} ${ip}`);

function decide(a: Allocation, ...entries: ServiceEntry[]): Record<string, string[]> {
  const { wanted } = a.decide(entries, () => true);
  return Object.fromEntries([...wanted].map(([key, v]) => [key.slice("shop/".length), shown(v)]));
}

test("each host gets one address of each family, the oldest entry first", () => {
  const a = new Allocation(PREFIXES);
  const young = entry("a", { hosts: ["a1.example", "a2.example"], at: "2026-02-01T00:00:00Z" });
  const old = entry("b", { at: "2026-01-01T00:00:00Z" });
  assert.deepEqual(decide(a, young, old), {
    b: ["b.example 240.240.0.1", "b.example 2001:2::1"],
    a: [
      "a1.example 240.240.0.2",
      "a1.example 2001:2::2",
      "a2.example 240.240.0.3",
      "a2.example 2001:2::3",
    ],
  });
  assert.deepEqual(Object.keys(decide(a, young, old)), ["b", "a"], "the same until it is written");
});

for (const c of [
  { name: "resolution NONE", entry: entry("x", { resolution: "NONE" }), hosts: [] },
  { name: "own addresses", entry: entry("x", { addresses: ["10.0.0.1"] }), hosts: [] },
  { name: "unreadable own addresses", entry: entry("x", { addresses: ["?"] }), hosts: [] },
  {
    name: "opted out",
    entry: entry("x", { labels: { "networking.istio.io/enable-autoallocate-ip": "False" } }),
    hosts: [],
  },
  {
    name: "wildcard host",
    entry: entry("x", { hosts: ["*.w.example", "x.example"] }),
    hosts: ["x.example", "x.example"],
  },
  {
    name: "wildcard host with DYNAMIC_DNS",
    entry: entry("x", { hosts: ["*.w.example"], resolution: "DYNAMIC_DNS" }),
    hosts: ["*.w.example", "*.w.example"],
  },
])
  test(`eligible: ${c.name}`, () => {
    const { x = [] } = decide(new Allocation(PREFIXES), c.entry);
    assert.deepEqual(
      x.map((text) => text.split(" ")[0]),
      c.hosts,
    );
  });

test("assigned addresses survive a restart, and new entries get others", () => {
  const has = ["a.example 240.240.0.1", "a.example 2001:2::1"];
  const a = new Allocation(PREFIXES);
  const fresh = entry("0-older", { at: "" });
  assert.deepEqual(decide(a, fresh, entry("a", { status: has, at: "2026-01-01T00:00:00Z" })), {
    "0-older": ["0-older.example 240.240.0.2", "0-older.example 2001:2::2"],
  });
});

test("of two with one address the older keeps it", () => {
  const status = (host: string): string[] => [`${host} 240.240.0.9`, `${host} 2001:2::9`];
  const old = entry("b", { status: status("b.example"), at: "2026-01-01T00:00:00Z" });
  const young = entry("a", { status: status("a.example"), at: "2026-02-01T00:00:00Z" });
  assert.deepEqual(decide(new Allocation(PREFIXES), young, old), {
    a: ["a.example 240.240.0.1", "a.example 2001:2::1"],
  });
});

test("an address that a spec names is nobody else's, single or in a range", () => {
  const has = ["a.example 240.240.0.7", "a.example 2001:2::7"];
  const holder = entry("a", { status: has });
  const named = entry("z", { addresses: ["240.240.0.0/29", "2001:2::/120"], resolution: "NONE" });
  assert.deepEqual(decide(new Allocation(PREFIXES), holder, named), {
    a: ["a.example 240.240.0.8", "a.example 2001:2::100"],
  });
});

test("an entry that is no longer eligible loses its addresses, and they are free", () => {
  const a = new Allocation(PREFIXES);
  const has = ["a.example 240.240.0.1", "a.example 2001:2::1"];
  decide(a, entry("a", { status: has }));
  const out = entry("a", { status: has, resolution: "NONE" });
  assert.deepEqual(decide(a, out), { a: [] });
});

test("a host that goes gives back nothing at once, and a new host gets new addresses", () => {
  const a = new Allocation(PREFIXES);
  const has = ["a.example 240.240.0.1", "a.example 2001:2::1"];
  decide(a, entry("a", { status: has }));
  assert.deepEqual(decide(a, entry("a", { hosts: ["b.example"], status: has })), {
    a: ["b.example 240.240.0.2", "b.example 2001:2::2"],
  });
});

test("what a deleted entry had is not given out again", () => {
  const a = new Allocation(PREFIXES);
  decide(a, entry("a"));
  assert.deepEqual(decide(a, entry("b")), {
    b: ["b.example 240.240.0.2", "b.example 2001:2::2"],
  });
});

test("nothing is written to entries that are not ours, and what they have counts", () => {
  const a = new Allocation(PREFIXES);
  const foreign = entry("f", { status: ["f.example 240.240.0.1"] });
  const { wanted } = a.decide([foreign, entry("a")], (e) => e.name === "a");
  assert.deepEqual([...wanted.keys()], ["shop/a"]);
  assert.deepEqual(shown(wanted.get("shop/a")), ["a.example 240.240.0.2", "a.example 2001:2::1"]);
});

test("an empty pool reuses what is no longer held, then says who goes without", () => {
  const a = new Allocation({ v4: parseCidr("240.0.0.0/30"), v6: parseCidr("2001:2::/126") });
  const three = ["a", "b", "c"].map((name) => entry(name));
  decide(a, ...three);
  assert.deepEqual(decide(a, ...three.slice(1), entry("d"))["d"], [
    "d.example 240.0.0.1",
    "d.example 2001:2::1",
  ]);
  const { unserved } = a.decide([...three.slice(1), entry("d"), entry("e")], () => true);
  assert.deepEqual(unserved, ["shop/e e.example", "shop/e e.example"]);
});

test("the pool goes round, and steps over a reserved range at once however large", () => {
  const pool = new AddressPool(parseCidr("2001:2::/48"));
  pool.reserve([parseCidr("2001:2::/64"), parseCidr("10.0.0.0/8")]);
  assert.equal(pool.take(), "2001:2:0:1::");
  const small = new AddressPool(parseCidr("240.0.0.0/30"));
  assert.deepEqual(
    [small.take(), small.take(), small.take(), small.take()],
    ["240.0.0.1", "240.0.0.2", "240.0.0.3", null],
  );
  small.free("240.0.0.2" as Ip);
  assert.equal(small.take(), "240.0.0.2");
});

// The indexes against the plainest possible reading of the contract: a list of what was sent, searched from one end.
import assert from "node:assert/strict";
import { test } from "node:test";
import { cidrContains } from "../net/cidr.ts";
import type { Ip } from "../net/ip.ts";
import { serviceKey, type Service } from "./service.ts";
import { MeshTables } from "./tables.ts";
import { byHostname, cidrVips, ips, service, vips, workload } from "./test-mesh.ts";
import type { Workload } from "./workload.ts";

/** Keeps everything in lists; endpoints as (service key, uid) pairs that were let in. */
class Plain {
  readonly workloads = new Map<string, Workload>();
  readonly services = new Map<string, Service>();
  readonly letIn = new Set<string>();
  /** Endpoints sent while their service was unknown. */
  readonly parked = new Set<string>();

  put(w: Workload): void {
    this.remove(w.uid);
    this.workloads.set(w.uid, w);
    for (const key of w.services.keys()) {
      const s = this.services.get(key);
      if (s === undefined) this.parked.add(`${key} ${w.uid}`);
      else if (this.#admits(s, w)) this.letIn.add(`${key} ${w.uid}`);
    }
  }

  remove(uid: string): void {
    this.workloads.delete(uid);
    for (const set of [this.letIn, this.parked])
      for (const pair of set) if (pair.endsWith(` ${uid}`)) set.delete(pair);
  }

  putService(s: Service): void {
    const key = serviceKey(s);
    this.services.set(key, s);
    for (const pair of this.parked)
      if (pair.startsWith(`${key} `)) {
        this.parked.delete(pair);
        this.letIn.add(pair);
      }
    for (const w of this.workloads.values())
      if (!this.#admits(s, w)) this.letIn.delete(`${key} ${w.uid}`);
  }

  removeService(key: string): void {
    this.services.delete(key);
    for (const pair of this.letIn) if (pair.startsWith(`${key} `)) this.letIn.delete(pair);
  }

  endpoints(key: string): string[] {
    return [...this.letIn].flatMap((p) =>
      p.startsWith(`${key} `) ? [p.slice(key.length + 1)] : [],
    );
  }

  rankAt(ip: Ip): number {
    const here = [...this.workloads.values()].filter(
      (w) => w.networkMode !== "HostNetwork" && w.addresses.includes(ip),
    );
    return Math.max(-1, ...here.map(rankOfWorkload));
  }

  /** The rank of the best service; `exact`: by VIP, else by range. */
  serviceRankAt(ip: Ip, from: string): string {
    const seen = [...this.services.values()].filter(
      (s) => s.visibility === "Public" || s.namespace === from,
    );
    const exact = seen.filter((s) => s.vips.some((v) => v.ip === ip));
    if (exact.length > 0) return `vip ${Math.max(...exact.map((s) => rankOfService(s, from)))}`;
    const ranges = seen.flatMap((s) =>
      s.cidrVips
        .filter((v) => cidrContains(v.cidr, ip))
        .map((v) => rangeRank(s, v.cidr.bits, from)),
    );
    return ranges.length === 0 ? "none" : `range ${ranges.sort().at(-1)}`;
  }

  #admits(s: Service, w: Workload): boolean {
    return w.status === "Healthy" || s.loadBalancing.healthPolicy === "AllowAll";
  }
}

const rankOfWorkload = (w: Workload): number =>
  (w.uid.includes("//Pod/") ? 2 : 0) + (w.protocol === "HBONE" ? 1 : 0);
const rankOfService = (s: Service, from: string): number =>
  s.namespace === from ? 2 : s.canonical ? 1 : 0;
const rangeRank = (s: Service, bits: number, from: string): string =>
  `${s.namespace === from ? 1 : 0}.${String(bits).padStart(3, "0")}.${s.canonical ? 1 : 0}`;

const ADDRESSES = ips("10.0.0.1", "10.0.0.2", "10.0.9.3", "fd00::1");
const NAMESPACES = ["a", "b", "c"];
const HOSTS = ["x", "y"];

test("random histories: every lookup agrees with a plain list", () => {
  let seed = 17;
  const next = (n: number): number => (seed = (seed * 48_271) % 2_147_483_647) % n;
  const pick = <T>(list: readonly T[]): T => list[next(list.length)] ?? assert.fail();
  const some = <T>(list: readonly T[]): T[] => list.filter(() => next(3) === 0);
  const keys = NAMESPACES.flatMap((ns) => HOSTS.map((h) => `${ns}/${h}`));
  const uids = [
    "c//Pod/a/1",
    "c//Pod/a/2",
    "c/e/WorkloadEntry/a/3",
    "c/e/WorkloadEntry/a/4",
    "c//Pod/b/5",
  ];
  const someWorkload = (): Workload =>
    workload("w", {
      uid: pick(uids),
      namespace: pick(NAMESPACES),
      hostname: pick(["", "", "host.example.com"]),
      addresses: some(ADDRESSES),
      protocol: pick(["HBONE", "TCP"]),
      networkMode: pick(["Standard", "Standard", "HostNetwork"]),
      status: pick(["Healthy", "Healthy", "Unhealthy"]),
      services: new Map(some(keys).map((key) => [key, new Map()])),
    });
  const someService = (): Service =>
    service("s", {
      namespace: pick(NAMESPACES),
      hostname: pick(HOSTS),
      vips: vips(...some(ADDRESSES)),
      cidrVips: cidrVips(...some(["10.0.0.0/16", "10.0.0.0/30", "fd00::/64"])),
      canonical: next(2) === 0,
      visibility: pick(["Public", "Namespace"]),
      loadBalancing: {
        preferences: [],
        mode: "Standard",
        healthPolicy: pick(["OnlyHealthy", "AllowAll"]),
      },
    });

  for (let history = 0; history < 40; history++) {
    const tables = new MeshTables();
    const plain = new Plain();
    for (let step = 0; step < 60; step++) {
      const action = next(10);
      if (action < 5) {
        const w = someWorkload();
        tables.putWorkload(w);
        plain.put(w);
      } else if (action < 8) {
        const s = someService();
        tables.putService(s);
        plain.putService(s);
      } else if (action === 8) {
        const uid = pick(uids);
        tables.apply([{ op: "remove-address", name: uid }]);
        plain.remove(uid);
      } else {
        const key = pick(keys);
        tables.apply([{ op: "remove-address", name: key }]);
        plain.removeService(key);
      }
      compare(tables, plain, keys);
    }
  }
});

function compare(tables: MeshTables, plain: Plain, keys: readonly string[]): void {
  assert.equal(tables.workloadCount, plain.workloads.size);
  assert.equal(tables.serviceCount, plain.services.size);
  for (const ip of ADDRESSES) {
    const found = tables.findWorkload("net1", ip);
    assert.equal(found === null ? -1 : rankOfWorkload(found), plain.rankAt(ip));
    assert.ok(found === null || plain.workloads.get(found.uid) === found);
    for (const from of NAMESPACES) {
      const s = tables.serviceAt("net1", ip, from);
      assert.equal(serviceRank(s, ip, from), plain.serviceRankAt(ip, from));
      assert.ok(s === null || plain.services.get(serviceKey(s)) === s);
    }
  }
  for (const key of keys) {
    const s = tables.findServiceByKey(key);
    assert.equal(s, plain.services.get(key) ?? null);
    if (s === null) continue;
    assert.deepEqual(
      [...tables.endpoints(s)].map((w) => w.uid).sort(),
      plain.endpoints(key).sort(),
    );
  }
  const staged = [...tables.stagedServices()].flatMap(([key, ws]) =>
    [...ws].map((w) => `${key} ${w.uid}`),
  );
  assert.deepEqual(staged.sort(), [...plain.parked].sort());
  const named = [...plain.workloads.values()].some((w) => w.namespace === "a" && w.hostname !== "");
  assert.equal(tables.resolveGateway(byHostname("a", "host.example.com"), null) !== null, named);
}

function serviceRank(s: Service | null, ip: Ip, from: string): string {
  if (s === null) return "none";
  if (s.vips.some((v) => v.ip === ip)) return `vip ${rankOfService(s, from)}`;
  const ranges = s.cidrVips
    .filter((v) => cidrContains(v.cidr, ip))
    .map((v) => rangeRank(s, v.cidr.bits, from));
  return `range ${ranges.sort().at(-1)}`;
}

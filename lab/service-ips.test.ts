import assert from "node:assert/strict";
import { test } from "node:test";
import type { Service } from "#lib/kube/objects.ts";
import { allocateServiceIps } from "./service-ips.ts";

const service = (spec: Service["spec"] = {}): Service => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: "s", namespace: "shop" },
  spec,
});
const other = service({ clusterIP: "10.96.0.16", clusterIPs: ["10.96.0.16", "fd00:96::10"] });

for (const c of [
  { name: "the first free address", spec: {}, families: "ipv4", want: ["10.96.0.17"] },
  { name: "one of each family", spec: {}, families: "dual", want: ["10.96.0.17", "fd00:96::11"] },
  {
    name: "only the family asked for",
    spec: { ipFamilies: ["IPv6"] },
    families: "dual",
    want: ["fd00:96::11"],
  },
  { name: "headless", spec: { clusterIP: "None" }, families: "ipv4", want: ["None"] },
  {
    name: "a fixed address",
    spec: { clusterIP: "10.96.0.10" },
    families: "ipv4",
    want: ["10.96.0.10"],
  },
] as const)
  test(`service addresses: ${c.name}`, () => {
    assert.deepEqual(allocateServiceIps(service(c.spec), [other], c.families)?.clusterIPs, c.want);
  });

test("service addresses: nothing changes once they are set, and external names have none", () => {
  const done = service({
    clusterIP: "10.96.0.20",
    clusterIPs: ["10.96.0.20"],
    ipFamilies: ["IPv4"],
  });
  assert.equal(allocateServiceIps(done, [other], "dual"), null);
  assert.equal(allocateServiceIps(service({ type: "ExternalName" }), [], "dual"), null);
});

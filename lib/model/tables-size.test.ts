// 100 000 workloads must fit a node: budget 80 MB of heap and 1.5 s per replica, a lookup in about a microsecond.
// Bounds here are several times wider, for busy machines; the figures are printed.
import assert from "node:assert/strict";
import { test } from "node:test";
import { memoryHeld } from "../../test/harness/memory.ts";
import { parseIp } from "../net/ip.ts";
import { Address, Workload as WorkloadMessage } from "../wire/gen/workload.gen.ts";
import { authorize } from "./rbac.ts";
import { decideOutbound } from "./outbound.ts";
import type { TableOp } from "./table-op.ts";
import { MeshTables } from "./tables.ts";
import { policy, match, service, vips } from "./test-mesh.ts";
import { identityOf } from "./workload.ts";

const COUNT = 100_000;

/** Pods as istiod sends them, all in one shared buffer: 50 per deployment, 200 namespaces, 500 nodes. */
function resources(): TableOp[] {
  const parts = Array.from({ length: COUNT }, (_, i) => {
    const app = `app-${i % 2000}`;
    const namespace = `team-${i % 200}`;
    const name = `${app}-7d9f8c6b5-${(i * 7919).toString(36).padStart(5, "x")}`;
    const value = WorkloadMessage.create({
      uid: `Kubernetes//Pod/${namespace}/${name}`,
      name,
      namespace,
      addresses: [Buffer.from([10, (i >> 16) & 255, (i >> 8) & 255, i & 255])],
      network: "net1",
      tunnelProtocol: 1,
      serviceAccount: app,
      node: `node-${i % 500}`,
      canonicalName: app,
      canonicalRevision: "v1",
      workloadType: 2,
      workloadName: app,
      locality: { region: "r1", zone: `z${i % 3}` },
    });
    value.services.set(`${namespace}/${app}.${namespace}.svc.cluster.local`, {
      ports: [{ servicePort: 80, targetPort: 8080, appProtocol: 0 }],
    });
    return Address.encode(Address.create({ type: { $case: "workload", value } })).finish();
  });
  const shared = new SharedArrayBuffer(parts.reduce((sum, p) => sum + p.length, 0));
  let at = 0;
  return parts.map((p, i) => {
    const bytes = new Uint8Array(shared, at, p.length);
    bytes.set(p);
    at += p.length;
    return { op: "address", name: `w${i}`, bytes };
  });
}

function nsPer(times: number, body: () => void): number {
  const start = performance.now();
  for (let i = 0; i < times; i++) body();
  return ((performance.now() - start) * 1e6) / times;
}

test("100 000 workloads", { timeout: 60_000 }, (t) => {
  const ops = resources();
  const tables = new MeshTables({ node: "node-1" });
  for (let app = 0; app < 2000; app++)
    tables.putService(
      service(`app-${app}`, {
        namespace: `team-${app % 200}`,
        vips: vips(`10.96.${app >> 8}.${app & 255}`),
      }),
    );
  const before = memoryHeld().heap / 1e6;
  const start = performance.now();
  assert.deepEqual(tables.apply(ops), []);
  const ingestMs = performance.now() - start;
  const heap = memoryHeld().heap / 1e6 - before;
  assert.equal(tables.workloadCount, COUNT);
  assert.equal(
    tables.endpoints(
      tables.findService("team-7", "app-7.team-7.svc.cluster.local") ?? assert.fail(),
    ).size,
    50,
  );

  const ip = parseIp("10.0.3.7");
  const client = tables.findWorkload("net1", ip) ?? assert.fail();
  tables.putPolicy(
    policy(
      "Allow",
      [[[match({ principals: [{ kind: "exact", value: identityOf(client).slice(9) }] })]]],
      { namespace: client.namespace },
    ),
  );
  const lookupNs = nsPer(200_000, () => tables.findWorkload("net1", ip));
  const request = {
    source: client,
    sourceIp: ip,
    destination: { ip: parseIp("10.96.0.9"), port: 80 },
    network: "net1",
    random: Math.random,
  };
  const outboundNs = nsPer(50_000, () => decideOutbound(tables, request));
  const conn = {
    sourceIp: ip,
    identity: identityOf(client),
    destinationIp: ip,
    destinationPort: 8080,
  };
  const policyNs = nsPer(100_000, () => authorize(tables.policiesFor(client), conn));
  t.diagnostic(
    `ingest ${ingestMs.toFixed(0)} ms, heap ${heap.toFixed(1)} MB, findWorkload ${lookupNs.toFixed(0)} ns, ` +
      `decideOutbound over 50 endpoints ${outboundNs.toFixed(0)} ns, authorize ${policyNs.toFixed(0)} ns`,
  );
  assert.ok(ingestMs < 7500, `ingest took ${ingestMs} ms`);
  assert.ok(heap < 80, `heap grew by ${heap} MB`);
  assert.ok(lookupNs < 5000 && policyNs < 10_000 && outboundNs < 50_000);
});

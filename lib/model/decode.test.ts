import assert from "node:assert/strict";
import { test } from "node:test";
import { formatCidr } from "../net/cidr.ts";
import { Authorization as AuthorizationMessage } from "../wire/gen/authorization.gen.ts";
import {
  Address,
  Service as ServiceMessage,
  Workload as WorkloadMessage,
} from "../wire/gen/workload.gen.ts";
import { decodeAuthorization } from "./decode-authorization.ts";
import { decodeAddress } from "./decode.ts";
import { ModelError, type ModelErrorCode } from "./errors.ts";
import { DecodePools } from "./intern.ts";
import type { Service } from "./service.ts";
import type { Workload } from "./workload.ts";

/** A message with only what matters; the generated `DeepPartial` cannot describe maps. */
type Part<T> = T extends Uint8Array | string | number | boolean | undefined
  ? T
  : T extends Map<infer K, infer V>
    ? Map<K, Part<V>>
    : T extends readonly (infer U)[]
      ? Part<U>[]
      : { [K in keyof T]?: Part<T[K]> | undefined };
type WorkloadPart = Part<WorkloadMessage>;
type ServicePart = Part<ServiceMessage>;
type PolicyPart = Part<AuthorizationMessage>;

const V4 = Buffer.from([10, 0, 0, 1]);

function workloadBytes(part: WorkloadPart): Uint8Array {
  const value = WorkloadMessage.create({ uid: "c//Pod/n/p", ...(part as object) });
  return Address.encode(Address.create({ type: { $case: "workload", value } })).finish();
}

function serviceBytes(part: ServicePart): Uint8Array {
  const value = ServiceMessage.create({ namespace: "n", hostname: "s.n", ...(part as object) });
  return Address.encode(Address.create({ type: { $case: "service", value } })).finish();
}

function policyBytes(part: PolicyPart): Uint8Array {
  return AuthorizationMessage.encode(AuthorizationMessage.create(part as object)).finish();
}

function decodeWorkload(part: WorkloadPart): Workload {
  const found = decodeAddress(workloadBytes(part));
  assert.ok(found.kind === "workload");
  return found.workload;
}

function decodeService(part: ServicePart): Service {
  const found = decodeAddress(serviceBytes(part));
  assert.ok(found.kind === "service");
  return found.service;
}

/** An enum number this release does not know. */
const unknown = <T>(value: number): T => value as T;

test("vector: workload", () => {
  const hex = "0a1b0a017012016e1a040a0000012801a2010a632f2f506f642f6e2f70";
  const found = decodeAddress(Buffer.from(hex, "hex"));
  assert.ok(found.kind === "workload");
  const { uid, name, namespace, addresses, protocol } = found.workload;
  assert.deepEqual(
    { uid, name, namespace, addresses, protocol },
    { uid: "c//Pod/n/p", name: "p", namespace: "n", addresses: ["10.0.0.1"], protocol: "HBONE" },
  );
});

test("vector: service", () => {
  const hex = "121a0a017312016e1a03732e6e220612040a0900012a05085010903f";
  const found = decodeAddress(Buffer.from(hex, "hex"));
  assert.ok(found.kind === "service");
  assert.deepEqual(found.service.vips, [{ network: "", ip: "10.9.0.1" }]);
  assert.equal(found.service.ports.get(80)?.targetPort, 8080);
});

test("vector: authorization", () => {
  const p = decodeAuthorization(
    "n/p",
    Buffer.from("0a017012016e180120012a080a06120422022200", "hex"),
  );
  assert.deepEqual([p.scope, p.action, p.key], ["Namespace", "Deny", "n/p"]);
  assert.deepEqual(p.rules[0]?.[0]?.[0]?.notPrincipals, [{ kind: "presence" }]);
});

test("workload defaults", () => {
  const w = decodeWorkload({});
  assert.deepEqual(
    [w.trustDomain, w.serviceAccount, w.clusterId, w.capacity, w.protocol, w.networkMode, w.status],
    ["cluster.local", "default", "Kubernetes", 1, "TCP", "Standard", "Healthy"],
  );
  assert.deepEqual(
    [w.waypoint, w.networkGateway, w.applicationTunnel, w.workloadType, w.services.size],
    [null, null, null, "deployment", 0],
  );
});

test("workload fields", () => {
  const w = decodeWorkload({
    addresses: [V4, Buffer.from("fd000000000000000000000000000007", "hex")],
    trustDomain: "td",
    capacity: 0,
    applicationTunnel: { protocol: 1, port: 15_088 },
    workloadType: unknown(77),
    services: new Map([["n/s.n", { ports: [{ servicePort: 80, targetPort: 65_536 + 9000 }] }]]),
    networkGateway: {
      destination: { $case: "address", value: { network: "net2", address: V4 } },
      hboneMtlsPort: 15_008,
    },
  });
  assert.deepEqual(w.addresses, ["10.0.0.1", "fd00::7"]);
  assert.deepEqual([w.trustDomain, w.capacity, w.workloadType], ["td", 0, "deployment"]);
  assert.deepEqual(w.applicationTunnel, { protocol: "PROXY", port: 15_088 });
  assert.equal(w.services.get("n/s.n")?.get(80), 9000, "ports are truncated to 16 bits");
  assert.deepEqual(w.networkGateway, {
    kind: "address",
    network: "net2",
    ip: "10.0.0.1",
    hbonePort: 15_008,
  });
  assert.equal(decodeWorkload({ applicationTunnel: {} }).applicationTunnel?.port, null);
});

test("service fields", () => {
  const s = decodeService({
    addresses: [
      { network: "net1", address: V4 },
      { network: "net1", address: V4, length: 32 },
      { network: "net1", address: Buffer.from([10, 97, 3, 4]), length: 16 },
    ],
    visibility: unknown(9),
    ports: [{ servicePort: 80, targetPort: 0, appProtocol: unknown(42) }],
    loadBalancing: { mode: 2, routingPreference: [6, 1, 2], healthPolicy: 1 },
    ipFamilies: 3,
    weightedWaypoints: [
      {
        destination: {
          destination: { $case: "hostname", value: { namespace: "n", hostname: "wp" } },
          hboneMtlsPort: 15_008,
        },
        weight: 7,
      },
    ],
  });
  assert.equal(s.vips.length, 2);
  assert.deepEqual(
    s.cidrVips.map((v) => formatCidr(v.cidr)),
    ["10.97.0.0/16"],
  );
  assert.deepEqual([s.visibility, s.ipFamilies], ["Public", "Dual"]);
  assert.deepEqual(s.ports.get(80), { targetPort: 0, appProtocol: "UNKNOWN" });
  assert.deepEqual(s.loadBalancing, {
    mode: "Failover",
    preferences: ["Network", "Region", "Zone"],
    healthPolicy: "AllowAll",
  });
  assert.deepEqual(s.weightedWaypoints[0], {
    destination: { kind: "hostname", namespace: "n", hostname: "wp", hbonePort: 15_008 },
    weight: 7,
  });
});

const refused: { name: string; code: ModelErrorCode; decode: () => unknown }[] = [
  {
    name: "neither workload nor service",
    code: "MISSING_FIELD",
    decode: () => decodeAddress(new Uint8Array()),
  },
  {
    name: "truncated bytes",
    code: "MALFORMED",
    decode: () => decodeAddress(workloadBytes({ name: "p" }).subarray(0, -1)),
  },
  {
    name: "workload without uid",
    code: "MISSING_FIELD",
    decode: () => decodeWorkload({ uid: "" }),
  },
  {
    name: "LEGACY_ISTIO_MTLS",
    code: "UNSUPPORTED",
    decode: () => decodeWorkload({ tunnelProtocol: 2 }),
  },
  {
    name: "unknown tunnel protocol",
    code: "UNKNOWN_ENUM",
    decode: () => decodeWorkload({ tunnelProtocol: unknown(3) }),
  },
  {
    name: "unknown network mode",
    code: "UNKNOWN_ENUM",
    decode: () => decodeWorkload({ networkMode: unknown(2) }),
  },
  {
    name: "negative enum number",
    code: "UNKNOWN_ENUM",
    decode: () => decodeWorkload({ networkMode: unknown(-1) }),
  },
  {
    name: "unknown status",
    code: "UNKNOWN_ENUM",
    decode: () => decodeWorkload({ status: unknown(2) }),
  },
  {
    name: "unknown application tunnel",
    code: "UNKNOWN_ENUM",
    decode: () => decodeWorkload({ applicationTunnel: { protocol: unknown(2) } }),
  },
  {
    name: "address of 5 bytes",
    code: "BAD_ADDRESS",
    decode: () => decodeWorkload({ addresses: [Buffer.alloc(5)] }),
  },
  {
    name: "empty address",
    code: "BAD_ADDRESS",
    decode: () => decodeWorkload({ addresses: [Buffer.alloc(0)] }),
  },
  {
    name: "waypoint without destination",
    code: "MISSING_FIELD",
    decode: () => decodeWorkload({ waypoint: {} }),
  },
  {
    name: "gateway without destination",
    code: "MISSING_FIELD",
    decode: () => decodeWorkload({ networkGateway: {} }),
  },
  {
    name: "services key without slash",
    code: "BAD_KEY",
    decode: () => decodeWorkload({ services: new Map([["s.n", { ports: [] }]]) }),
  },
  {
    name: "service without hostname",
    code: "MISSING_FIELD",
    decode: () => decodeService({ hostname: "" }),
  },
  {
    name: "VIP of 3 bytes",
    code: "BAD_ADDRESS",
    decode: () => decodeService({ addresses: [{ address: Buffer.alloc(3) }] }),
  },
  {
    name: "VIP with an impossible prefix",
    code: "BAD_ADDRESS",
    decode: () => decodeService({ addresses: [{ address: V4, length: 33 }] }),
  },
  {
    name: "unknown families",
    code: "UNKNOWN_ENUM",
    decode: () => decodeService({ ipFamilies: unknown(4) }),
  },
  {
    name: "listed UNSPECIFIED_SCOPE",
    code: "UNKNOWN_ENUM",
    decode: () => decodeService({ loadBalancing: { routingPreference: [0] } }),
  },
  {
    name: "unknown scope",
    code: "UNKNOWN_ENUM",
    decode: () => decodeService({ loadBalancing: { routingPreference: [unknown(7)] } }),
  },
  {
    name: "unknown balancing mode",
    code: "UNKNOWN_ENUM",
    decode: () => decodeService({ loadBalancing: { mode: unknown(4) } }),
  },
  {
    name: "unknown health policy",
    code: "UNKNOWN_ENUM",
    decode: () => decodeService({ loadBalancing: { healthPolicy: unknown(2) } }),
  },
  {
    name: "weighted waypoint without destination",
    code: "MISSING_FIELD",
    decode: () => decodeService({ weightedWaypoints: [{ weight: 1 }] }),
  },
  {
    name: "policy with unknown scope",
    code: "UNKNOWN_ENUM",
    decode: () => decodeAuthorization("n/p", policyBytes({ scope: unknown(3) })),
  },
  {
    name: "policy with unknown action",
    code: "UNKNOWN_ENUM",
    decode: () => decodeAuthorization("n/p", policyBytes({ action: unknown(2) })),
  },
  {
    name: "policy with an invalid range",
    code: "BAD_ADDRESS",
    decode: () =>
      decodeAuthorization(
        "n/p",
        policyBytes({
          groups: [{ rules: [{ matches: [{ sourceIps: [{ address: V4, length: 40 }] }] }] }],
        }),
      ),
  },
  {
    name: "policy with an unset string matcher",
    code: "MISSING_FIELD",
    decode: () =>
      decodeAuthorization(
        "n/p",
        policyBytes({ groups: [{ rules: [{ matches: [{ namespaces: [{}] }] }] }] }),
      ),
  },
];
for (const c of refused)
  test(`refused: ${c.name}`, () => {
    assert.throws(c.decode, (e: unknown) => e instanceof ModelError && e.code === c.code);
  });

test("IPv4-mapped addresses and ranges become plain IPv4", () => {
  const mapped = Buffer.from("00000000000000000000ffff0a000001", "hex");
  assert.deepEqual(decodeWorkload({ addresses: [mapped] }).addresses, ["10.0.0.1"]);
  const p = decodeAuthorization(
    "n/p",
    policyBytes({
      groups: [{ rules: [{ matches: [{ sourceIps: [{ address: mapped, length: 104 }] }] }] }],
    }),
  );
  assert.equal(p.rules[0]?.[0]?.[0]?.sourceIps.map(formatCidr).join(), "10.0.0.0/8");
});

test("a policy keeps its shape, empty groups and matches included", () => {
  const p = decodeAuthorization(
    "n/p",
    policyBytes({ groups: [{}, { rules: [{}, { matches: [{}] }] }] }),
  );
  assert.deepEqual(
    p.rules.map((r) => r.map((c) => c.length)),
    [[], [0, 1]],
  );
});

test("equal parts of resources are shared", () => {
  const pools = new DecodePools();
  const part = (uid: string): WorkloadPart => ({
    uid,
    locality: { region: "r", zone: "z" },
    services: new Map([["n/s", { ports: [{ servicePort: 80, targetPort: 8080 }] }]]),
    authorizationPolicies: ["n/p"],
  });
  const [a, b] = ["a", "b"].map((uid) => decodeAddress(workloadBytes(part(uid)), pools));
  assert.ok(a?.kind === "workload" && b?.kind === "workload");
  assert.equal(a.workload.services, b.workload.services);
  assert.equal(a.workload.locality, b.workload.locality);
  assert.equal(a.workload.authorizationPolicies, b.workload.authorizationPolicies);
});

test("damaged bytes are refused or decoded, never anything else", () => {
  const whole = workloadBytes({
    name: "p",
    namespace: "n",
    addresses: [V4],
    services: new Map([["n/s", { ports: [{ servicePort: 80 }] }]]),
  });
  let seed = 7;
  const next = (n: number) => (seed = (seed * 48_271) % 2_147_483_647) % n;
  for (let i = 0; i < 5000; i++) {
    const bytes = Uint8Array.from(whole.subarray(0, next(whole.length + 1)));
    for (let k = next(3); k > 0 && bytes.length > 0; k--) bytes[next(bytes.length)] = next(256);
    try {
      decodeAddress(bytes);
    } catch (error) {
      assert.ok(error instanceof ModelError, String(error));
    }
  }
});

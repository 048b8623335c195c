// The hand-written response codec against the generated one.
import assert from "node:assert/strict";
import { test } from "node:test";
import { DeltaDiscoveryRequest, DeltaDiscoveryResponse } from "../wire/gen/discovery.gen.ts";
import { decodeDeltaResponse, encodeDeltaResponse } from "./delta-messages.ts";
import { createCertificateMethod } from "./services.ts";

const TYPE = "type.googleapis.com/istio.workload.Address";
const sample = {
  typeUrl: TYPE,
  nonce: "n-1",
  systemVersion: "7",
  resources: [
    { name: "a", version: "v1", bytes: Buffer.from("first") },
    { name: "ünï/code", version: "", bytes: Buffer.alloc(300, 7), aliases: ["/10.0.0.1", "x"] },
    { name: "empty", version: "v3", bytes: Buffer.alloc(0) },
    { name: "big", version: "v4", bytes: Buffer.alloc(70_000, 1) },
  ],
  removed: ["gone", "gone/too"],
};

test("what is encoded by hand, the generated decoder reads", () => {
  const decoded = DeltaDiscoveryResponse.decode(encodeDeltaResponse(sample));
  assert.equal(decoded.typeUrl, TYPE);
  assert.equal(decoded.nonce, "n-1");
  assert.equal(decoded.systemVersionInfo, "7");
  assert.deepEqual(decoded.removedResources, sample.removed);
  assert.deepEqual(
    decoded.resources.map((r) => [r.name, r.version, r.aliases, r.resource?.typeUrl]),
    sample.resources.map((r) => [r.name, r.version, r.aliases ?? [], TYPE]),
  );
  decoded.resources.forEach((r, i) =>
    assert.deepEqual(Buffer.from(r.resource?.value ?? []), sample.resources[i]?.bytes),
  );
});

test("what the generated encoder writes, the hand-written decoder reads as views", () => {
  const bytes = Buffer.from(
    DeltaDiscoveryResponse.encode(
      DeltaDiscoveryResponse.fromPartial({
        typeUrl: TYPE,
        nonce: "n",
        systemVersionInfo: "s",
        removedResources: ["r"],
        resources: [
          { name: "a", version: "1", resource: { typeUrl: TYPE, value: Buffer.from("x") } },
          { name: "without payload", version: "2" },
        ],
      }),
    ).finish(),
  );
  const decoded = decodeDeltaResponse(bytes);
  assert.deepEqual(
    { ...decoded, resources: decoded.resources.map((r) => [r.name, r.version]) },
    {
      typeUrl: TYPE,
      nonce: "n",
      systemVersion: "s",
      removed: ["r"],
      resources: [
        ["a", "1"],
        ["without payload", "2"],
      ],
      byteLength: bytes.length,
    },
  );
  assert.equal(decoded.resources[1]?.bytes, null);
  assert.equal(decoded.resources[0]?.bytes?.buffer, bytes.buffer, "no copy");
});

test("unknown fields are skipped on every level", () => {
  const unknown = Buffer.from([0xf2, 0x07, 0x01, 0x61]); // field 126, length-delimited
  const body = encodeDeltaResponse({ ...sample, resources: [] });
  const decoded = decodeDeltaResponse(Buffer.concat([unknown, body, unknown]));
  assert.equal(decoded.nonce, "n-1");
});

test("every truncation is an error or a shorter message, never a wrong read", () => {
  const bytes = encodeDeltaResponse({ ...sample, resources: sample.resources.slice(0, 2) });
  for (let cut = 0; cut < bytes.length; cut++) {
    try {
      const decoded = decodeDeltaResponse(Buffer.from(bytes.subarray(0, cut)));
      assert.ok(decoded.resources.length <= 2);
    } catch (error) {
      assert.ok(error instanceof Error);
    }
  }
});

test("random damage never crashes the decoder", () => {
  const bytes = encodeDeltaResponse(sample).subarray(0, 500);
  let seed = 1;
  const random = (): number => (seed = (seed * 48_271) % 2_147_483_647);
  for (let i = 0; i < 5_000; i++) {
    const damaged = Buffer.from(bytes);
    for (let k = 0; k < 3; k++) damaged[random() % damaged.length] = random() & 0xff;
    try {
      decodeDeltaResponse(damaged);
    } catch (error) {
      assert.ok(error instanceof Error);
    }
  }
});

test("requests have the encoding of the contract", () => {
  const hex =
    "122a747970652e676f6f676c65617069732e636f6d2f697374696f2e776f726b6c6f61642e416464726573732a0a0a056e2f732e6e120131";
  const request = DeltaDiscoveryRequest.fromPartial({
    typeUrl: TYPE,
    initialResourceVersions: new Map([["n/s.n", "1"]]),
  });
  assert.equal(Buffer.from(DeltaDiscoveryRequest.encode(request).finish()).toString("hex"), hex);
  assert.equal(
    createCertificateMethod
      .requestSerialize({
        csr: "X",
        validityDuration: 86_400,
        metadata: { ImpersonatedIdentity: "spiffe://td/ns/n/sa/a" },
      })
      .toString("hex"),
    "0a01581880a30522310a2f0a14496d706572736f6e617465644964656e7469747912171a157370696666653a2f2f74642f6e732f6e2f73612f61",
  );
});

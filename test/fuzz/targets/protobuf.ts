// Every generated message a peer can send us; the first octet of the input picks one.
import assert from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";
import { Authorization } from "#lib/wire/gen/authorization.gen.ts";
import { IstioCertificateRequest, IstioCertificateResponse } from "#lib/wire/gen/ca.gen.ts";
import { DeltaDiscoveryRequest, DeltaDiscoveryResponse } from "#lib/wire/gen/discovery.gen.ts";
import { Address, Service, Workload } from "#lib/wire/gen/workload.gen.ts";
import { WorkloadRequest, WorkloadResponse, ZdsHello } from "#lib/wire/gen/zds.gen.ts";
import type { FuzzTarget } from "../target.ts";
import { addressCorpus, authorizationCorpus } from "../workload-corpus.ts";

interface Codec<T = unknown> {
  decode(bytes: Uint8Array): T;
  encode(message: T): { finish(): Uint8Array };
}

const CODECS = [
  Address,
  Authorization,
  DeltaDiscoveryRequest,
  DeltaDiscoveryResponse,
  WorkloadRequest,
  WorkloadResponse,
  ZdsHello,
  IstioCertificateRequest,
  IstioCertificateResponse,
  Workload,
  Service,
] as readonly unknown[] as readonly Codec[];

function input(codec: unknown, bytes: Uint8Array): Uint8Array {
  return Buffer.concat([Buffer.of(CODECS.indexOf(codec as Codec)), bytes]);
}

/** `value { struct { fields { value … } } }` around nothing, as deep as `levels`. */
function nestedStruct(levels: number): Uint8Array {
  let value = Buffer.alloc(0);
  for (let i = 0; i < levels; i++)
    for (const tag of [0x12, 0x0a, 0x2a])
      value = Buffer.concat([Buffer.of(tag), varint(value.length), value]);
  return Buffer.concat([
    Buffer.of(0x0a),
    varint(value.length + 2),
    Buffer.of(0x1a),
    varint(value.length),
    value,
  ]);
}

function varint(value: number): Buffer {
  const octets: number[] = [];
  for (let rest = value; ; rest >>>= 7) {
    octets.push(rest < 0x80 ? rest : (rest & 0x7f) | 0x80);
    if (rest < 0x80) return Buffer.from(octets);
  }
}

export const target: FuzzTarget = {
  name: "protobuf",
  corpus: [
    ...addressCorpus().map((bytes) => input(Address, bytes)),
    ...authorizationCorpus().map((bytes) => input(Authorization, bytes)),
    input(
      DeltaDiscoveryRequest,
      DeltaDiscoveryRequest.encode(
        DeltaDiscoveryRequest.create({
          node: { id: "ztunnel~10.0.0.1~z.istio-system~x" },
          typeUrl: "type.googleapis.com/istio.workload.Address",
          resourceNamesSubscribe: ["*"],
          initialResourceVersions: new Map([["a", "1"]]),
          responseNonce: "n",
          errorDetail: { code: 3, message: "bad" },
        }),
      ).finish(),
    ),
    input(DeltaDiscoveryRequest, nestedStruct(3)),
    input(DeltaDiscoveryRequest, nestedStruct(500)),
    input(
      DeltaDiscoveryResponse,
      DeltaDiscoveryResponse.encode(
        DeltaDiscoveryResponse.create({
          typeUrl: "t",
          nonce: "n",
          resources: [
            { name: "a", version: "1", resource: { typeUrl: "t", value: Buffer.from("xyz") } },
          ],
          removedResources: ["b"],
        }),
      ).finish(),
    ),
    input(
      WorkloadRequest,
      WorkloadRequest.encode(
        WorkloadRequest.create({
          payload: {
            $case: "add",
            value: {
              uid: "u",
              workloadInfo: { name: "a", namespace: "default", serviceAccount: "sa" },
            },
          },
        }),
      ).finish(),
    ),
    input(
      WorkloadRequest,
      WorkloadRequest.encode(
        WorkloadRequest.create({ payload: { $case: "snapshotSent", value: {} } }),
      ).finish(),
    ),
    input(
      IstioCertificateRequest,
      IstioCertificateRequest.encode(
        IstioCertificateRequest.create({ csr: "PEM", validityDuration: 86_400 }),
      ).finish(),
    ),
  ],
  // The protobuf runtime throws plain errors; the callers turn them into their own.
  refusals: [Error],
  run(bytes) {
    const codec = CODECS[(bytes[0] ?? 0) % CODECS.length]!;
    const message = codec.decode(bytes.subarray(1));
    const encoded = codec.encode(message).finish();
    const again = codec.decode(encoded);
    assert.ok(isDeepStrictEqual(again, message), "decoding what was encoded gives another message");
    return `decoded ${CODECS.indexOf(codec)}`;
  },
};

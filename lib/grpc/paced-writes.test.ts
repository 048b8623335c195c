// Large messages arrive whole though they are written in pieces, and what is under a grpc-js call is found.
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { Client, Metadata } from "@grpc/grpc-js";
import type { DeltaDiscoveryRequest } from "#lib/wire/gen/discovery.gen.ts";
import { testCa, testPair } from "../pki/test-ca.ts";
import { channelParts } from "./channel.ts";
import { encodeDeltaResponse, type IncomingResponse } from "./delta-messages.ts";
import { GrpcServer } from "./server.ts";
import { deltaClientMethod, deltaServerMethod } from "./services.ts";

const NAME = "istiod.istio-system.svc";

test("a message of megabytes is whole, and so is the one after it", {
  timeout: 20_000,
}, async (t) => {
  const ca = await testCa();
  const server = new GrpcServer(await testPair(ca, [NAME]));
  t.after(() => server.close());
  const bytes = Buffer.alloc(3_000_000, "0123456789abcdef!");
  const messageOf = (nonce: string): Buffer =>
    encodeDeltaResponse({
      typeUrl: "t",
      nonce,
      systemVersion: "",
      resources: [{ name: "r", version: "1", bytes }],
      removed: [],
    });
  let isPaced = false;
  server.handleStream<DeltaDiscoveryRequest, Buffer>(deltaServerMethod, (stream) => {
    const { call } = stream as unknown as { readonly call: { readonly stream: object } };
    isPaced = Object.hasOwn(call.stream, "write");
    for (const nonce of ["a", "b"]) stream.write(messageOf(nonce));
    stream.end();
  });
  const port = await server.listen("127.0.0.1:0");
  const rootCert = Buffer.from(ca.rootPem);
  const address = { host: "127.0.0.1", port };
  const parts = channelParts({ address, altHostname: NAME, rootCert });
  const client = new Client(parts.target, parts.credentials, parts.options);
  t.after(() => client.close());
  const { path, requestSerialize, responseDeserialize } = deltaClientMethod;
  const stream = client.makeBidiStreamRequest(
    path,
    requestSerialize,
    responseDeserialize,
    new Metadata(),
  );
  const nonces: string[] = [];
  stream.on("data", (response: IncomingResponse) => {
    nonces.push(response.nonce);
    assert.ok(bytes.equals(response.resources[0]?.bytes ?? Buffer.alloc(0)));
  });
  await once(stream, "end");
  assert.deepEqual(nonces, ["a", "b"]);
  assert.ok(isPaced, "grpc-js keeps its stream elsewhere now: see paced-writes.ts");
});

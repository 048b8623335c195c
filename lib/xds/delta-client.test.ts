// The delta client against a scripted server over loopback TLS.
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import type { ServerDuplexStream } from "@grpc/grpc-js";
import type { Clock } from "../base/clock.ts";
import { encodeDeltaResponse, type OutgoingResource } from "../grpc/delta-messages.ts";
import { GrpcError } from "../grpc/errors.ts";
import { endWith, GrpcServer } from "../grpc/server.ts";
import { deltaServerMethod } from "../grpc/services.ts";
import { createLogger } from "../obs/log.ts";
import { testCa, testPair } from "../pki/test-ca.ts";
import type { DeltaDiscoveryRequest } from "../wire/gen/discovery.gen.ts";
import { DeltaClient, type DeltaClientOptions, type DeltaUpdate } from "./delta-client.ts";
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from "./type-urls.ts";

const log = createLogger({ scope: "test", level: "silent", format: "json" });
const TIMEOUT = { timeout: 15_000 };

type Stream = ServerDuplexStream<DeltaDiscoveryRequest, Buffer>;

/** Hands out values in order to whoever waits for them. */
class Mailbox<T> {
  readonly #values: T[] = [];
  readonly #waiting: ((value: T) => void)[] = [];

  put(value: T): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#values.push(value);
    else next(value);
  }

  async take(): Promise<T> {
    const value = this.#values.shift();
    return value ?? (await new Promise<T>((resolve) => this.#waiting.push(resolve)));
  }
}

interface Accepted {
  readonly stream: Stream;
  readonly requests: Mailbox<DeltaDiscoveryRequest>;
  send(typeUrl: string, nonce: string, resources: OutgoingResource[], removed?: string[]): void;
}

async function fixture(t: TestContext, overrides: Partial<DeltaClientOptions> = {}) {
  const ca = await testCa();
  const pair = await testPair(ca, ["istiod.istio-system.svc"]);
  const server = new GrpcServer(pair);
  const streams = new Mailbox<Accepted>();
  server.handleStream<DeltaDiscoveryRequest, Buffer>(deltaServerMethod, (stream: Stream) => {
    const requests = new Mailbox<DeltaDiscoveryRequest>();
    stream.on("data", (request: DeltaDiscoveryRequest) => requests.put(request));
    stream.on("end", () => stream.end());
    streams.put({
      stream,
      requests,
      send: (typeUrl, nonce, resources, removed = []) =>
        void stream.write(
          encodeDeltaResponse({ typeUrl, nonce, systemVersion: "1", resources, removed }),
        ),
    });
  });
  const port = await server.listen("127.0.0.1:0");
  const updates = new Mailbox<{ typeUrl: string; update: DeltaUpdate }>();
  const delays: number[] = [];
  const waited = new Mailbox<number>();
  const clock: Clock = {
    now: () => Date.now(),
    sleep: async (ms) => {
      delays.push(ms);
      waited.put(ms);
    },
  };
  const record = (typeUrl: string) => ({
    typeUrl,
    apply: (update: DeltaUpdate) => {
      updates.put({ typeUrl, update });
      return update.resources
        .filter((r) => r.name.startsWith("bad"))
        .map((r) => ({ name: r.name, reason: "no" }));
    },
  });
  const terminations: string[] = [];
  const abort = new AbortController();
  const client = new DeltaClient({
    address: `https://127.0.0.1:${port}`,
    altHostname: "istiod.istio-system.svc",
    rootCert: async () => Buffer.from(ca.rootPem),
    token: async () => "tok",
    clusterId: "Kubernetes",
    headers: { "x-extra": "1" },
    node: {
      id: "ztunnel~10.0.0.1~z.istio-system~istio-system.svc.cluster.local",
      metadata: { NODE_NAME: "n" },
    },
    types: [record(ADDRESS_TYPE), record(AUTHORIZATION_TYPE)],
    onTerminated: (reason) => terminations.push(reason),
    log,
    clock,
    ...overrides,
  });
  const running = client.run(abort.signal);
  t.after(async () => {
    abort.abort();
    await running;
    server.close();
  });
  return { server, streams, updates, delays, waited, client, ca, terminations, abort, running };
}

const resource = (name: string, version = "1"): OutgoingResource => ({
  name,
  version,
  bytes: Buffer.from(`payload of ${name}`),
});

test(
  "a new stream subscribes to addresses, then policies, with token, cluster and node",
  TIMEOUT,
  async (t) => {
    const f = await fixture(t);
    const { stream, requests } = await f.streams.take();
    const first = await requests.take();
    const second = await requests.take();
    assert.equal(first.typeUrl, ADDRESS_TYPE);
    assert.equal(second.typeUrl, AUTHORIZATION_TYPE);
    assert.equal(first.node?.id, "ztunnel~10.0.0.1~z.istio-system~istio-system.svc.cluster.local");
    assert.deepEqual(second.node?.metadata, { NODE_NAME: "n" });
    assert.deepEqual(first.resourceNamesSubscribe, []);
    assert.equal(first.initialResourceVersions.size, 0);
    assert.deepEqual(stream.metadata.get("authorization"), ["Bearer tok"]);
    assert.deepEqual(stream.metadata.get("clusterid"), ["Kubernetes"]);
    assert.deepEqual(stream.metadata.get("x-extra"), ["1"]);
  },
);

test(
  "a response is applied before its ACK, which names type and nonce only",
  TIMEOUT,
  async (t) => {
    const f = await fixture(t);
    const s = await f.streams.take();
    await s.requests.take();
    await s.requests.take();
    s.send(ADDRESS_TYPE, "n1", [resource("a"), resource("b")], ["gone"]);
    const { update } = await f.updates.take();
    assert.deepEqual(
      update.resources.map((r) => r.name),
      ["a", "b"],
    );
    assert.equal(Buffer.from(update.resources[1]?.bytes ?? []).toString(), "payload of b");
    assert.deepEqual(update.removed, ["gone"]);
    const ack = await s.requests.take();
    assert.equal(ack.responseNonce, "n1");
    assert.equal(ack.errorDetail, undefined);
    assert.equal(ack.node, undefined);
    assert.equal(ack.initialResourceVersions.size, 0);
  },
);

test("a rejected resource is NACKed with code 0, and the rest is kept", TIMEOUT, async (t) => {
  const f = await fixture(t);
  const s = await f.streams.take();
  await s.requests.take();
  await s.requests.take();
  s.send(ADDRESS_TYPE, "n1", [resource("a"), resource("bad1"), resource("bad2")]);
  const nack = await s.requests.take();
  assert.deepEqual(nack.errorDetail, { code: 0, message: "bad1: no; bad2: no" });
  assert.equal(nack.responseNonce, "n1");
  assert.deepEqual([...f.client.held(ADDRESS_TYPE)], [["a", "1"]]);
});

test("a type nobody asked for is ACKed and otherwise ignored", TIMEOUT, async (t) => {
  const f = await fixture(t);
  const s = await f.streams.take();
  await s.requests.take();
  await s.requests.take();
  s.send("type.googleapis.com/other", "n1", [resource("a")]);
  const ack = await s.requests.take();
  assert.equal(ack.typeUrl, "type.googleapis.com/other");
  assert.equal(ack.errorDetail, undefined);
});

test(
  "a reconnect claims every accepted version and leaves rejected names out",
  TIMEOUT,
  async (t) => {
    const f = await fixture(t);
    const s = await f.streams.take();
    await s.requests.take();
    await s.requests.take();
    s.send(ADDRESS_TYPE, "n1", [resource("a", "7"), resource("b", "8"), resource("bad")]);
    await s.requests.take();
    s.send(ADDRESS_TYPE, "n2", [], ["b"]);
    await s.requests.take();
    s.stream.end(); // clean end: at once, no wait
    const again = await f.streams.take();
    const first = await again.requests.take();
    assert.deepEqual([...first.initialResourceVersions], [["a", "7"]]);
    assert.equal(first.responseNonce, "");
    assert.notEqual(first.node, undefined);
    assert.deepEqual(f.delays, []);
    assert.deepEqual(f.terminations, ["Complete"]);
  },
);

test(
  "a stream refused before it opened is tried again after doubling delays",
  TIMEOUT,
  async (t) => {
    const f = await fixture(t);
    for (let i = 0; i < 4; i++) {
      const s = await f.streams.take();
      endWith(s.stream, new GrpcError("UNAUTHENTICATED", "no"));
      await f.waited.take();
    }
    assert.deepEqual(f.delays.slice(0, 4), [20, 40, 80, 160]);
    assert.equal(f.terminations[0], "ConnectionError");
  },
);

test(
  "a stream that ends CANCELLED after it opened is tried again after 10 ms",
  TIMEOUT,
  async (t) => {
    const f = await fixture(t);
    const s = await f.streams.take();
    await s.requests.take();
    s.send(ADDRESS_TYPE, "n1", []);
    await f.updates.take();
    endWith(s.stream, new GrpcError("CANCELLED", "rebalancing"));
    assert.equal(await f.waited.take(), 10);
    assert.deepEqual(f.terminations, ["Reconnect"]);
  },
);

test("a server whose certificate has another name is not spoken to", TIMEOUT, async (t) => {
  const f = await fixture(t, { altHostname: "other.svc" });
  await f.waited.take();
  assert.equal(f.terminations[0], "ConnectionError");
});

test("a server of another authority is not spoken to", TIMEOUT, async (t) => {
  const other = await testCa();
  const f = await fixture(t, { rootCert: async () => Buffer.from(other.rootPem) });
  await f.waited.take();
  assert.equal(f.terminations[0], "ConnectionError");
});

test("an empty token is an error before any connection", TIMEOUT, async (t) => {
  const f = await fixture(t, { token: async () => "" });
  assert.equal(await f.waited.take(), 20);
});

test(
  "when the first request is too large, the next claims nothing and removes what is missing",
  TIMEOUT,
  async (t) => {
    const f = await fixture(t);
    const s = await f.streams.take();
    await s.requests.take();
    await s.requests.take();
    s.send(ADDRESS_TYPE, "n1", [resource("a"), resource("b")]);
    await f.updates.take();
    await s.requests.take();
    endWith(
      s.stream,
      new GrpcError("RESOURCE_EXHAUSTED", "received message larger than max (5 vs. 4)"),
    );
    const again = await f.streams.take();
    assert.equal((await again.requests.take()).initialResourceVersions.size, 0);
    again.send(ADDRESS_TYPE, "n2", [resource("b"), resource("c")]);
    const { update } = await f.updates.take();
    assert.deepEqual(update.removed, ["a"]);
    await again.requests.take();
    await again.requests.take();
    assert.deepEqual([...f.client.held(ADDRESS_TYPE).keys()], ["b", "c"]);
  },
);

test("a large response is applied in pieces, removals last", TIMEOUT, async (t) => {
  const pieces: DeltaUpdate[] = [];
  const f = await fixture(t, {
    types: [{ typeUrl: ADDRESS_TYPE, chunkSize: 2, apply: (u) => (pieces.push(u), []) }],
  });
  const s = await f.streams.take();
  await s.requests.take();
  s.send(
    ADDRESS_TYPE,
    "n1",
    ["a", "b", "c"].map((n) => resource(n)),
    ["x"],
  );
  await s.requests.take();
  assert.deepEqual(
    pieces.map((p) => [p.resources.length, p.removed.length, p.isLast]),
    [
      [2, 0, false],
      [1, 1, true],
    ],
  );
});

test("aborting ends run, and the server sees the stream go", TIMEOUT, async (t) => {
  const f = await fixture(t);
  const s = await f.streams.take();
  const gone = new Promise<void>((resolve) => s.stream.once("cancelled", () => resolve()));
  f.abort.abort();
  await f.running;
  await gone;
});

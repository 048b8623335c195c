// The push side over loopback TLS, seen by a bare gRPC client that behaves as ztunnel does.
import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { Client, Metadata, type ClientDuplexStream, type ServiceError } from "@grpc/grpc-js";
import { channelParts } from "#lib/grpc/channel.ts";
import { GrpcServer } from "#lib/grpc/server.ts";
import { deltaServerMethod } from "#lib/grpc/services.ts";
import { createLogger } from "#lib/obs/log.ts";
import { TokenError } from "#lib/pki/jwt.ts";
import { testCa, testPair } from "#lib/pki/test-ca.ts";
import { DeltaDiscoveryRequest, DeltaDiscoveryResponse } from "#lib/wire/gen/discovery.gen.ts";
import { Address, Workload } from "#lib/wire/gen/workload.gen.ts";
import {
  ADDRESS_TYPE as A,
  AUTHORIZATION_TYPE as P,
  WAYPOINT_POLICY_TYPE as W,
  WORKLOAD_TYPE,
} from "#lib/xds/type-urls.ts";
import { Authenticator } from "../authenticate.ts";
import { Metrics } from "../metrics.ts";
import type { DeltaStream } from "./connection.ts";
import { FakeTables } from "./fake-tables.ts";
import { MeshSource } from "./mesh-source.ts";
import { Pusher } from "./pusher.ts";
import { PushState } from "./push-state.ts";
import { XdsService, type XdsServiceOptions } from "./xds-service.ts";

const TIMEOUT = { timeout: 20_000 };
const NODE_ID = "ztunnel~10.0.0.1~ztunnel-x.istio-system~istio-system.svc.cluster.local";
const log = createLogger({ scope: "test", level: "silent", format: "json" });

async function fixture(t: TestContext, overrides: Partial<XdsServiceOptions> = {}) {
  const ca = await testCa();
  const server = new GrpcServer(await testPair(ca, ["istiod.istio-system.svc"]));
  const tables = new FakeTables();
  const metrics = new Metrics("test");
  const podsOnNode = (node: string) =>
    node === "n1" ? [{ namespace: "shop", name: "local" }] : [];
  const state = new PushState(new MeshSource({ tables, clusterId: "c", podsOnNode }));
  const authenticator = new Authenticator({
    tokens: {
      verify: async (token) => {
        const [namespace = "", serviceAccount = ""] = token.split("/");
        if (serviceAccount === "") throw new TokenError("malformed", "no token");
        return { namespace, serviceAccount, podName: null, podUid: null };
      },
    },
    clusterId: "c",
    log,
  });
  const service = new XdsService({
    authenticator,
    state,
    metrics,
    log,
    version: "t",
    ...overrides,
  });
  const now = performance.now.bind(performance);
  const pusher = new Pusher({ tables, state, connections: service.connections, metrics, log, now });
  server.handleStream<DeltaDiscoveryRequest, Buffer>(deltaServerMethod, (stream: DeltaStream) =>
    service.handle(stream),
  );
  const port = await server.listen("127.0.0.1:0");
  t.after(() => server.close());
  const connect = (token: string | null = "istio-system/ztunnel", clusterId = "c"): RawClient => {
    const parts = channelParts({
      address: { host: "127.0.0.1", port },
      altHostname: "istiod.istio-system.svc",
      rootCert: Buffer.from(ca.rootPem),
    });
    const metadata = new Metadata();
    if (token !== null) metadata.set("authorization", `Bearer ${token}`);
    metadata.set("clusterid", clusterId);
    const client = new RawClient(
      new Client(parts.target, parts.credentials, parts.options),
      metadata,
    );
    t.after(() => client.close());
    return client;
  };
  const count = async (name: string, labels: Record<string, string> = {}): Promise<number> => {
    const metric = await metrics.registry.getSingleMetric(name)?.get();
    const found = metric?.values.find((v) =>
      Object.entries(labels).every(([k, value]) => v.labels[k] === value),
    );
    return found?.value ?? 0;
  };
  return { tables, pusher, service, connect, count, server };
}

type RequestPart = Partial<DeltaDiscoveryRequest>;

/** No client of ours: the generated codec on a bare channel, every message written by hand. */
class RawClient {
  readonly #client: Client;
  readonly call: ClientDuplexStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;
  readonly #responses: DeltaDiscoveryResponse[] = [];
  #wake: (() => void) | null = null;
  /** Resolves with the status the server ended the stream with. */
  readonly ended: Promise<{ code: number; details: string }>;

  constructor(client: Client, metadata: Metadata) {
    this.#client = client;
    this.call = client.makeBidiStreamRequest(
      "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
      (m: DeltaDiscoveryRequest) => Buffer.from(DeltaDiscoveryRequest.encode(m).finish()),
      (b: Buffer) => DeltaDiscoveryResponse.decode(b),
      metadata,
    );
    this.call.on("data", (response: DeltaDiscoveryResponse) => {
      this.#responses.push(response);
      this.#wake?.();
    });
    this.ended = new Promise((resolve) => {
      this.call.on("error", (error: ServiceError) =>
        resolve({ code: error.code, details: error.details }),
      );
      this.call.on("end", () => resolve({ code: 0, details: "" }));
    });
  }

  send(typeUrl: string, request: RequestPart = {}): void {
    this.call.write({
      typeUrl,
      resourceNamesSubscribe: [],
      resourceNamesUnsubscribe: [],
      initialResourceVersions: new Map(),
      responseNonce: "",
      ...request,
    });
  }

  /** What ztunnel sends first: both types at once, each with its node. */
  subscribe(addresses: RequestPart = {}, policies: RequestPart = {}, metadata = {}): void {
    const node = { id: NODE_ID, cluster: "", metadata: { NAMESPACE: "istio-system", ...metadata } };
    this.send(A, { node, ...addresses });
    this.send(P, { node, ...policies });
  }

  async next(): Promise<DeltaDiscoveryResponse> {
    for (;;) {
      const response = this.#responses.shift();
      if (response !== undefined) return response;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  async nextNames(): Promise<[string, string[], string[]]> {
    const r = await this.next();
    return [
      r.typeUrl === A ? "A" : r.typeUrl === P ? "P" : r.typeUrl,
      r.resources.map((x) => x.name),
      r.removedResources,
    ];
  }

  get waiting(): number {
    return this.#responses.length;
  }

  close(): void {
    this.call.on("error", () => {});
    this.call.cancel();
    this.#client.close();
  }
}

test(
  "both first requests are answered, even when there is nothing, policies first",
  TIMEOUT,
  async (t) => {
    const f = await fixture(t);
    const client = f.connect();
    client.subscribe();
    assert.deepEqual(await client.nextNames(), ["P", [], []]);
    const answer = await client.next();
    assert.equal(answer.typeUrl, A);
    assert.notEqual(answer.nonce, "");
  },
);

test(
  "the first answer holds everything, and a change goes to every client at once",
  TIMEOUT,
  async (t) => {
    const f = await fixture(t);
    f.tables.workload("c//Pod/shop/a", ["shop/p"]);
    f.tables.service("shop/svc");
    f.tables.policy("shop/p");
    const clients = [f.connect(), f.connect(), f.connect()];
    for (const client of clients) {
      client.subscribe();
      assert.deepEqual(await client.nextNames(), ["P", ["shop/p"], []]);
      const answer = await client.next();
      assert.deepEqual(
        answer.resources.map((r) => r.name),
        ["c//Pod/shop/a", "shop/svc"],
      );
      assert.equal(answer.resources[0]?.resource?.typeUrl, A);
      client.send(A, { responseNonce: answer.nonce });
    }
    f.pusher.publish(f.tables.workload("c//Pod/shop/b"));
    f.pusher.publish(f.tables.removeAddress("c//Pod/shop/a"));
    for (const client of clients) {
      assert.deepEqual(await client.nextNames(), ["A", ["c//Pod/shop/b"], []]);
      assert.deepEqual(await client.nextNames(), ["A", [], ["c//Pod/shop/a"]]);
    }
    const nonces = await Promise.all(
      clients.map(async () => f.service.status()[0]?.subscriptions[0]),
    );
    assert.ok(nonces.every((s) => s?.wildcard));
  },
);

test("a policy arrives before the workload that names it, and leaves after", TIMEOUT, async (t) => {
  const f = await fixture(t);
  f.tables.workload("c//Pod/shop/a");
  const client = f.connect();
  client.subscribe();
  await client.next();
  await client.next();
  const added = f.tables.policy("shop/p");
  const { addresses } = f.tables.workload("c//Pod/shop/a", ["shop/p"]);
  f.pusher.publish({ ...added, addresses });
  assert.deepEqual(await client.nextNames(), ["P", ["shop/p"], []]);
  assert.deepEqual(await client.nextNames(), ["A", ["c//Pod/shop/a"], []]);
  const removed = f.tables.removePolicy("shop/p");
  f.pusher.publish({ ...removed, addresses: f.tables.workload("c//Pod/shop/a").addresses });
  assert.deepEqual(await client.nextNames(), ["A", ["c//Pod/shop/a"], []]);
  assert.deepEqual(await client.nextNames(), ["P", [], ["shop/p"]]);
});

test(
  "a waypoint gets its policies before the addresses; nobody else gets them",
  TIMEOUT,
  async (t) => {
    const f = await fixture(t);
    f.tables.waypointPolicy("shop/w");
    f.tables.workload("c//Pod/shop/a");
    const waypoint = f.connect("shop/wp");
    const id = "waypoint~10.0.0.2~wp-x.shop~shop.svc.cluster.local";
    const node = { id, cluster: "", metadata: { NAMESPACE: "shop", SERVICE_ACCOUNT: "wp" } };
    waypoint.send(W, { node });
    waypoint.send(A, { node });
    assert.deepEqual(await waypoint.nextNames(), [W, ["shop/w"], []]);
    assert.deepEqual(await waypoint.nextNames(), ["A", ["c//Pod/shop/a"], []]);
    const ztunnel = f.connect();
    ztunnel.send(W, { node: { id: NODE_ID, cluster: "" } });
    ztunnel.subscribe();
    assert.equal((await ztunnel.next()).typeUrl, P);
    assert.equal((await ztunnel.next()).typeUrl, A);
    const { addresses } = f.tables.workload("c//Pod/shop/b");
    f.pusher.publish({ ...f.tables.waypointPolicy("shop/w2"), addresses });
    assert.deepEqual(await waypoint.nextNames(), [W, ["shop/w2"], []]);
    assert.deepEqual(await waypoint.nextNames(), ["A", ["c//Pod/shop/b"], []]);
    assert.deepEqual(await ztunnel.nextNames(), ["A", ["c//Pod/shop/b"], []]);
    f.pusher.publish(f.tables.waypointPolicy("shop/w"));
    assert.deepEqual(await waypoint.nextNames(), [W, ["shop/w"], []]);
    assert.equal(ztunnel.waiting, 0);
  },
);

test("a changed service brings its workloads again", TIMEOUT, async (t) => {
  const f = await fixture(t);
  f.tables.workload("c//Pod/shop/a", [], ["shop/svc"]);
  const client = f.connect();
  client.subscribe();
  await client.next();
  await client.next();
  f.pusher.publish(f.tables.service("shop/svc"));
  assert.deepEqual(await client.nextNames(), ["A", ["shop/svc", "c//Pod/shop/a"], []]);
});

test("a reconnect gets what changed and loses what is gone", TIMEOUT, async (t) => {
  const f = await fixture(t);
  f.tables.workload("c//Pod/shop/a");
  f.tables.workload("c//Pod/shop/b");
  const first = f.connect();
  first.subscribe();
  await first.next();
  const held = new Map((await first.next()).resources.map((r) => [r.name, r.version]));
  first.close();
  f.pusher.publish(f.tables.workload("c//Pod/shop/b", ["shop/p"]));
  f.pusher.publish(f.tables.removeAddress("c//Pod/shop/a"));
  const second = f.connect();
  second.subscribe({ initialResourceVersions: held });
  assert.deepEqual(await second.nextNames(), ["P", [], []]);
  assert.deepEqual(await second.nextNames(), ["A", ["c//Pod/shop/b"], ["c//Pod/shop/a"]]);
});

test("a NACK with code 0 is counted, not answered", TIMEOUT, async (t) => {
  const f = await fixture(t);
  f.tables.workload("c//Pod/shop/a");
  const client = f.connect();
  client.subscribe();
  await client.next();
  const { nonce } = await client.next();
  client.send(A, { responseNonce: nonce, errorDetail: { code: 0, message: "c//Pod/shop/a: bad" } });
  f.pusher.publish(f.tables.workload("c//Pod/shop/b"));
  assert.deepEqual(await client.nextNames(), ["A", ["c//Pod/shop/b"], []]);
  client.send(A, { responseNonce: "outdated" });
  f.pusher.publish(f.tables.workload("c//Pod/shop/d"));
  await client.next();
  while ((await f.count("pilot_xds_expired_nonce")) < 1) await new Promise(setImmediate);
  assert.equal(await f.count("pilot_total_xds_rejects", { type: "wds" }), 1);
  assert.equal(client.waiting, 0);
});

test("on-demand: own workloads first, an address on request, nothing else", TIMEOUT, async (t) => {
  const f = await fixture(t);
  f.tables.workload("c//Pod/shop/local");
  f.tables.workload("c//Pod/shop/far");
  f.tables.aliases.set("/10.0.0.9", ["c//Pod/shop/far"]);
  const client = f.connect();
  client.subscribe(
    { resourceNamesSubscribe: ["*"], resourceNamesUnsubscribe: ["*"] },
    {},
    { NODE_NAME: "n1" },
  );
  await client.next();
  assert.deepEqual(await client.nextNames(), ["A", ["c//Pod/shop/local"], []]);
  f.pusher.publish(f.tables.workload("c//Pod/shop/other"));
  client.send(A, { resourceNamesSubscribe: ["/10.0.0.9"] });
  const answer = await client.next();
  assert.deepEqual(
    answer.resources.map((r) => r.name),
    ["c//Pod/shop/far", "/10.0.0.9"],
  );
  assert.deepEqual(answer.resources[0]?.aliases, ["/10.0.0.9"]);
});

test("the Workload type has bare workloads under the same names", TIMEOUT, async (t) => {
  const f = await fixture(t);
  f.tables.workload("c//Pod/shop/a");
  f.tables.service("shop/svc");
  const client = f.connect();
  client.send(WORKLOAD_TYPE, { node: { id: NODE_ID, cluster: "" } });
  const answer = await client.next();
  assert.deepEqual(
    answer.resources.map((r) => r.name),
    ["c//Pod/shop/a"],
  );
  const bytes = answer.resources[0]?.resource?.value ?? Buffer.alloc(0);
  const { type } = Address.decode(f.tables.addresses().get("c//Pod/shop/a")?.bytes ?? bytes);
  assert.deepEqual(Workload.decode(bytes), type?.$case === "workload" ? type.value : null);
});

for (const [name, token, cluster, node, code, details] of [
  ["no token", null, "c", {}, 16, /request authenticate failure/],
  ["a bad token", "x", "c", {}, 16, /request authenticate failure/],
  ["an unknown cluster", "istio-system/ztunnel", "west", {}, 16, /request authenticate failure/],
  ["a token of another namespace", "shop/cart", "c", {}, 7, /no authorized identity/],
  [
    "another account than claimed",
    "istio-system/cni",
    "c",
    { metadata: { SERVICE_ACCOUNT: "ztunnel" } },
    7,
    /no authorized/,
  ],
  ["no node", "istio-system/ztunnel", "c", { id: "" }, 3, /missing node/],
  [
    "a malformed node id",
    "istio-system/ztunnel",
    "c",
    { id: "ztunnel~1.1.1.1~x" },
    3,
    /four parts/,
  ],
  [
    "an unknown node type",
    "istio-system/ztunnel",
    "c",
    { id: NODE_ID.replace("ztunnel", "toaster") },
    3,
    /node type/,
  ],
  [
    "no address",
    "istio-system/ztunnel",
    "c",
    { id: NODE_ID.replace("10.0.0.1", "x") },
    3,
    /IP address/,
  ],
] as const)
  test(`refused: ${name}`, TIMEOUT, async (t) => {
    const f = await fixture(t);
    const client = f.connect(token, cluster);
    client.send(A, { node: { id: NODE_ID, cluster: "", ...node } });
    const end = await client.ended;
    assert.equal(end.code, code);
    assert.match(end.details, details);
    assert.equal(f.service.size, 0);
  });

test(
  "the limit of connections holds, and a place is free again after a client left",
  TIMEOUT,
  async (t) => {
    const f = await fixture(t, { maxConnections: 1 });
    const first = f.connect();
    first.subscribe();
    await first.next();
    const second = f.connect();
    assert.equal((await second.ended).code, 8);
    first.close();
    while (f.service.size > 0) await new Promise(setImmediate);
    const third = f.connect();
    third.subscribe();
    await third.next();
  },
);

test("a stream that never asks is closed", TIMEOUT, async (t) => {
  const f = await fixture(t, { firstRequestMs: 20 });
  assert.equal((await f.connect().ended).code, 4);
});

test(
  "a client that does not read costs names, not messages, and catches up",
  TIMEOUT,
  async (t) => {
    const f = await fixture(t);
    const [slow, fast] = [f.connect(), f.connect()];
    slow.call.pause();
    slow.subscribe();
    fast.subscribe();
    await fast.next();
    await fast.next();
    const rounds = 60;
    const megabyte = `shop/${"p".repeat(1_000_000)}`;
    for (let round = 0; round < rounds; round++) {
      f.pusher.publish(f.tables.workload("c//Pod/shop/w", [`shop/round-${round}`, megabyte]));
      await fast.next();
    }
    // The client's library takes 16 messages and its window 4 MiB before the server notices.
    const written = (await f.count("pilot_xds_pushes", { type: "wds" })) - rounds;
    assert.ok(written < 30, `the slow client was written ${written} messages`);
    slow.call.resume();
    for (let last = ""; !last.includes(`round-${rounds - 1}`); ) {
      const bytes = (await slow.next()).resources[0]?.resource?.value;
      last = Buffer.from(bytes ?? []).toString("latin1");
    }
  },
);

test("a stop ends streams with OK", TIMEOUT, async (t) => {
  const f = await fixture(t);
  const client = f.connect();
  client.subscribe();
  await client.next();
  f.service.endAll();
  assert.equal((await client.ended).code, 0);
});

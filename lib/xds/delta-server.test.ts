// One server stream, fed requests and changes, without a socket.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { OutgoingResource } from "../grpc/delta-messages.ts";
import type { DeltaDiscoveryRequest } from "../wire/gen/discovery.gen.ts";
import { DeltaServerStream, type DeltaSource } from "./delta-server.ts";
import { ADDRESS_TYPE as A, AUTHORIZATION_TYPE as P } from "./type-urls.ts";

type Table = Map<string, OutgoingResource>;
type Request = Partial<DeltaDiscoveryRequest>;

const EMPTY: DeltaDiscoveryRequest = {
  typeUrl: "",
  resourceNamesSubscribe: [],
  resourceNamesUnsubscribe: [],
  initialResourceVersions: new Map(),
  responseNonce: "",
};

const entry = (name: string, version = "1"): [string, OutgoingResource] => [
  name,
  { name, version, bytes: Buffer.from(name) },
];

function setup(addresses: string[] = ["a", "b"], policies: string[] = ["p"]) {
  const tables: Record<string, Table> = {
    [A]: new Map(addresses.map((n) => entry(n))),
    [P]: new Map(policies.map((n) => entry(n))),
  };
  const aliases = new Map<string, string[]>();
  const source: DeltaSource = {
    table: (url) => tables[url] ?? null,
    lookup: (_url, key) => aliases.get(key) ?? [],
    local: (url, node) => (url === A && node === "n1" ? ["a"] : []),
  };
  const stream = new DeltaServerStream(source);
  let nonces = 0;
  return {
    stream,
    addresses: tables[A] as Table,
    policies: tables[P] as Table,
    aliases,
    receive: (request: Request) => stream.receive({ ...EMPTY, ...request }),
    flush: () =>
      stream
        .flush(() => `n${++nonces}`, "v")
        .map((r) => ({
          type: r.typeUrl === A ? "A" : "P",
          nonce: r.nonce,
          names: r.resources.map((x) => x.name),
          removed: r.removed,
        })),
  };
}

const FIRST_REQUESTS: { name: string; request: Request; names: string[]; removed: string[] }[] = [
  { name: "empty lists are a wildcard", request: {}, names: ["a", "b"], removed: [] },
  {
    name: "a star is a wildcard",
    request: { resourceNamesSubscribe: ["*", "x"] },
    names: ["a", "b"],
    removed: [],
  },
  {
    name: "a star in both lists is no wildcard",
    request: { resourceNamesSubscribe: ["*"], resourceNamesUnsubscribe: ["*"] },
    names: [],
    removed: [],
  },
  {
    name: "a known version is left out",
    request: { initialResourceVersions: new Map([["a", "1"]]) },
    names: ["b"],
    removed: [],
  },
  {
    name: "another version is sent",
    request: {
      initialResourceVersions: new Map([
        ["a", "0"],
        ["b", ""],
      ]),
    },
    names: ["a", "b"],
    removed: [],
  },
  {
    name: "what is gone is removed",
    request: {
      initialResourceVersions: new Map([
        ["a", "1"],
        ["b", "1"],
        ["old", "1"],
      ]),
    },
    names: [],
    removed: ["old"],
  },
  {
    name: "a nonce of an earlier stream does not matter",
    request: { responseNonce: "x" },
    names: ["a", "b"],
    removed: [],
  },
  {
    name: "names asked for are answered, unknown ones as removed",
    request: { resourceNamesSubscribe: ["b", "zz"] },
    names: ["b"],
    removed: ["zz"],
  },
];

for (const c of FIRST_REQUESTS)
  test(`first request: ${c.name}`, () => {
    const s = setup();
    assert.equal(s.receive({ typeUrl: A, ...c.request }).kind, "subscribed");
    assert.deepEqual(s.flush(), [{ type: "A", nonce: "n1", names: c.names, removed: c.removed }]);
    assert.deepEqual(s.flush(), [], "answered once");
  });

test("an empty table is answered too", () => {
  const s = setup([], []);
  s.receive({ typeUrl: A });
  s.receive({ typeUrl: P });
  assert.deepEqual(
    s.flush().map((r) => [r.type, r.names.length]),
    [
      ["P", 0],
      ["A", 0],
    ],
  );
});

test("policies go before addresses, and their removals after", () => {
  const s = setup(["a"], ["new"]);
  s.receive({ typeUrl: A });
  s.receive({ typeUrl: P, initialResourceVersions: new Map([["old", "1"]]) });
  assert.deepEqual(
    s.flush().map((r) => [r.type, r.names, r.removed]),
    [
      ["P", ["new"], []],
      ["A", ["a"], []],
      ["P", [], ["old"]],
    ],
  );
});

function synced() {
  const s = setup();
  s.receive({ typeUrl: A });
  s.receive({ typeUrl: P });
  s.flush(); // n1: P, n2: A
  return s;
}

test("a change is sent once, as an update or a removal", () => {
  const s = synced();
  s.addresses.set(...entry("c"));
  s.addresses.delete("a");
  s.stream.changed(A, ["c", "a"]);
  assert.deepEqual(s.flush(), [{ type: "A", nonce: "n3", names: ["c"], removed: ["a"] }]);
  assert.deepEqual(s.flush(), []);
});

test("changes before a flush are joined, and the last state counts", () => {
  const s = synced();
  s.addresses.set(...entry("c", "1"));
  s.stream.changed(A, ["c"]);
  s.addresses.delete("c");
  s.stream.changed(A, ["c"]);
  assert.deepEqual(s.flush(), [{ type: "A", nonce: "n3", names: [], removed: ["c"] }]);
});

test("an ACK is not answered", () => {
  const s = synced();
  assert.equal(s.receive({ typeUrl: A, responseNonce: "n2" }).kind, "ack");
  assert.deepEqual(s.flush(), []);
  assert.equal(s.stream.status()[0]?.ackedNonce, "n2");
});

test("a NACK is recognised by its detail, code 0 included, and nothing is sent again", () => {
  const s = synced();
  const received = s.receive({
    typeUrl: A,
    responseNonce: "n2",
    errorDetail: { code: 0, message: "a: bad" },
  });
  assert.deepEqual(received, { kind: "nack", typeUrl: A, message: "a: bad" });
  assert.deepEqual(s.flush(), []);
  s.stream.changed(A, ["a"]);
  assert.deepEqual(s.flush()[0]?.names, ["a"], "a later change is sent");
});

test("a request with an outdated nonce is ignored whole", () => {
  const s = synced();
  const received = s.receive({ typeUrl: A, responseNonce: "n0", resourceNamesSubscribe: ["zz"] });
  assert.deepEqual(received, { kind: "ignored", typeUrl: A, why: "stale-nonce" });
  assert.deepEqual(s.flush(), []);
});

test("a type that is not served is ignored", () => {
  const s = setup();
  assert.equal(s.receive({ typeUrl: "other" }).kind, "ignored");
  assert.deepEqual(s.flush(), []);
});

test("a change before the first request of a type is not sent twice", () => {
  const s = setup();
  s.stream.changed(A, ["a"]);
  s.receive({ typeUrl: A });
  s.stream.changed(A, ["a"]);
  assert.deepEqual(s.flush()[0]?.names, ["a", "b"]);
});

const onDemand = (nodeName = "") => {
  const s = setup(["a", "b", "c"]);
  s.stream.nodeName = nodeName;
  s.receive({ typeUrl: A, resourceNamesSubscribe: ["*"], resourceNamesUnsubscribe: ["*"] });
  return s;
};

test("on demand, the first answer holds the workloads of the node", () => {
  assert.deepEqual(onDemand("n1").flush()[0]?.names, ["a"]);
});

test("on demand, only subscribed names are pushed", () => {
  const s = onDemand("n1");
  s.flush();
  s.stream.changed(A, ["a", "b"]);
  assert.deepEqual(s.flush()[0]?.names, ["a"]);
});

test("on demand, an address is answered under the resource's name and under its own", () => {
  const s = onDemand();
  s.flush();
  s.aliases.set("/10.0.0.2", ["b"]);
  assert.equal(s.receive({ typeUrl: A, resourceNamesSubscribe: ["/10.0.0.2"] }).kind, "subscribed");
  assert.deepEqual(s.flush()[0]?.names, ["b", "/10.0.0.2"]);
  s.stream.changed(A, ["b"]);
  assert.deepEqual(s.flush()[0]?.names, ["b"], "the resource found is subscribed");
});

test("on demand, a service brings its members", () => {
  const s = onDemand();
  s.flush();
  s.addresses.set(...entry("ns/svc"));
  s.aliases.set("ns/svc", ["ns/svc", "b", "c"]);
  s.receive({ typeUrl: A, resourceNamesSubscribe: ["ns/svc"] });
  assert.deepEqual(s.flush()[0]?.names, ["ns/svc", "b", "c"]);
});

test("on demand, an unknown key is answered as removed, and a reconnect keeps known ones", () => {
  const s = onDemand();
  s.flush();
  s.receive({ typeUrl: A, resourceNamesSubscribe: ["/10.9.9.9"] });
  assert.deepEqual(s.flush()[0]?.removed, ["/10.9.9.9"]);
  const again = setup();
  again.receive({
    typeUrl: A,
    resourceNamesSubscribe: ["*"],
    resourceNamesUnsubscribe: ["*"],
    initialResourceVersions: new Map([
      ["a", "1"],
      ["gone", "1"],
    ]),
  });
  const answer = again.flush()[0];
  assert.deepEqual([answer?.names, answer?.removed], [[], ["gone"]]);
});

test("unsubscribing the star ends the pushes", () => {
  const s = synced();
  s.receive({ typeUrl: A, resourceNamesUnsubscribe: ["*"] });
  s.stream.changed(A, ["a"]);
  assert.deepEqual(s.flush(), []);
});

test("bytes sent past flush count as sent", () => {
  const s = setup();
  s.receive({ typeUrl: A });
  assert.ok(s.stream.wantsEverything(A));
  s.stream.sent(A, "shared");
  assert.deepEqual(s.flush(), []);
  assert.equal(s.receive({ typeUrl: A, responseNonce: "shared" }).kind, "ack");
  assert.ok(s.stream.isInStep(A));
});

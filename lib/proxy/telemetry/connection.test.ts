// What one connection tells of itself: bytes counted once, rates since the last look, views from either side.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Connection, isFault, splitPolicy } from "./connection.ts";
import { CLIENT_RESET } from "./failures.ts";
import { addr, init, seriesKey } from "./test-connection.ts";
import { TrafficTable } from "./traffic-labels.ts";

function connection(part: Parameters<typeof init>[0] = {}) {
  const series = new TrafficTable().seriesFor(seriesKey());
  const c = new Connection(init(part), series, 1_000);
  const mover = { bytesSent: 0, bytesReceived: 0 };
  c.countedBy(mover);
  return { c, series, mover };
}

test("bytes go into the series once, however often they are counted, from the client's view", () => {
  for (const [direction, want] of [
    ["outbound", { received: 30, sent: 7 }],
    ["inbound", { received: 7, sent: 30 }],
  ] as const) {
    const { c, series, mover } = connection({ direction });
    mover.bytesSent = 10;
    c.count();
    c.count();
    Object.assign(mover, { bytesSent: 30, bytesReceived: 7 });
    c.settle();
    c.count();
    assert.deepEqual({ received: series.received, sent: series.sent }, want, direction);
  }
});

test("after its end a connection keeps its counts and lets go of the mover", () => {
  const { c, mover } = connection();
  mover.bytesSent = 5;
  c.settle();
  mover.bytesSent = 99;
  assert.deepEqual([c.bytesSent, c.bytesReceived], [5, 0]);
});

test("rates are those of the last second or more, whoever else looks", () => {
  const { c, mover } = connection();
  mover.bytesSent = 2_000;
  const first = c.tunnelView("n1", 3_000, { id: "n1-t4", streams: 2 });
  assert.deepEqual(first.tx, { bytes: 2_000, rate: 1_000 });
  mover.bytesSent = 2_500;
  assert.equal(c.tunnelView("n1", 4_000, null).tx.rate, 500);
  assert.equal(c.tunnelView("n1", 4_000, null).tx.rate, 500, "another reader at the same moment");
});

test("the view names both ends, the carrier and the verdict", () => {
  const { c } = connection({ via: { kind: "waypoint", namespace: "shop", name: "wp" } });
  c.verdict = "allowed";
  c.policy = "shop/viewer";
  const view = c.tunnelView("n1", 2_000, { id: "n1-t4", streams: 2 });
  assert.deepEqual(
    { ...view, id: "", rx: null, tx: null },
    {
      id: "",
      node: "n1",
      direction: "outbound",
      protocol: "HBONE",
      via: { kind: "waypoint", namespace: "shop", name: "wp" },
      source: {
        address: "10.0.1.9:51034",
        namespace: "shop",
        pod: "cart-7d9c4-x2x8p",
        workload: "cart",
        identity: "spiffe://cluster.local/ns/shop/sa/cart",
      },
      destination: {
        address: "10.0.2.4:8080",
        namespace: "shop",
        pod: "stock-66b5f-9wq7m",
        workload: "stock",
        service: "stock.shop.svc.cluster.local",
        identity: "spiffe://cluster.local/ns/shop/sa/stock",
      },
      security: "mutual_tls",
      tunnel: "n1-t4",
      streams: 2,
      openedAt: "1970-01-01T00:00:01.000Z",
      rx: null,
      tx: null,
      verdict: "allowed",
      policy: { namespace: "shop", name: "viewer" },
    },
  );
  assert.match(view.id, /^n1-o\d+$/);
});

test("Istio's dump: what was dialled is known of outbound connections only", () => {
  assert.deepEqual(connection().c.view(), {
    src: "10.0.1.9:51034",
    originalDst: "10.0.2.4:8080",
    actualDst: "10.0.2.4:15008",
    protocol: "HBONE",
  });
  const plain = {
    direction: "inbound",
    protocol: "TCP",
    destination: addr("[fd00::4]:80"),
  } as const;
  const { c } = connection(plain);
  assert.deepEqual([c.view().originalDst, c.view().actualDst], [null, "[fd00::4]:80"]);
  assert.equal(c.destinationView().address, "[fd00::4]:80");
});

test("ends nobody knows are addresses", () => {
  const nobody = {
    sourceWorkload: null,
    sourceIdentity: null,
    destinationWorkload: null,
    destinationIdentity: null,
    service: null,
  };
  const { c } = connection(nobody);
  assert.deepEqual(c.sourceView(), { address: "10.0.1.9:51034" });
  assert.deepEqual(c.destinationView(), { address: "10.0.2.4:8080" });
});

for (const [key, want] of [
  [null, null],
  ["shop/viewer", { namespace: "shop", name: "viewer" }],
  ["viewer", { namespace: "", name: "viewer" }],
  ["istio-system/a/b", { namespace: "istio-system", name: "a/b" }],
] as const)
  test(`policy ${key} in its parts`, () => assert.deepEqual(splitPolicy(key), want));

test("neither success nor a client's reset is a fault", () => {
  assert.equal(isFault(null), false);
  assert.equal(isFault(CLIENT_RESET), false);
  assert.equal(isFault({ flag: "-", reason: "drained", detail: "" }), true);
});

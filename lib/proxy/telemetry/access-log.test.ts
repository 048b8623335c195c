// Access-log lines letter by letter: Istio's fields in Istio's order, plain and JSON, and when lines leave.
import assert from "node:assert/strict";
import { test } from "node:test";
import { workload } from "#lib/model/test-mesh.ts";
import { AccessLog, type AccessLogOptions } from "./access-log.ts";
import { Connection, type ConnectionInit, type Failure } from "./connection.ts";
import { CLIENT_RESET } from "./failures.ts";
import { addr, init, seriesKey } from "./test-connection.ts";
import { TrafficTable } from "./traffic-labels.ts";

const OPENED = Date.UTC(2026, 7, 22, 9, 14, 7, 89);
const STAMP = "2026-08-22T09:14:07.120000Z";

class Lines {
  readonly batches: string[] = [];
  readonly log: AccessLog;

  constructor(part: Partial<AccessLogOptions> = {}) {
    const emit = (lines: Uint8Array): number => this.batches.push(Buffer.from(lines).toString());
    this.log = new AccessLog({ level: "info", format: "plain", emit, ...part });
  }

  get text(): string {
    this.log.flush();
    return this.batches.splice(0).join("");
  }
}

/** A connection that sent 812 bytes and received 20480 within 31 ms. */
function connection(part: Partial<ConnectionInit> = {}): Connection {
  const c = new Connection(init(part), new TrafficTable().seriesFor(seriesKey()), OPENED);
  c.countedBy({ bytesSent: 812, bytesReceived: 20_480 });
  c.settle();
  return c;
}

function closed(
  format: "plain" | "json",
  part: Partial<ConnectionInit> = {},
  failure: Failure | null = null,
): string {
  const lines = new Lines({ format });
  lines.log.closed(connection(part), failure, OPENED + 31);
  return lines.text;
}

const HBONE_FIELDS = [
  ["src.addr", "10.0.1.9:51034"],
  ["src.workload", '"cart-7d9c4-x2x8p"'],
  ["src.namespace", '"shop"'],
  ["src.identity", '"spiffe://cluster.local/ns/shop/sa/cart"'],
  ["src.cluster", '"Kubernetes"'],
  ["dst.addr", "10.0.2.4:15008"],
  ["dst.hbone_addr", "10.0.2.4:8080"],
  ["dst.service", '"stock.shop.svc.cluster.local"'],
  ["dst.workload", '"stock-66b5f-9wq7m"'],
  ["dst.namespace", '"shop"'],
  ["dst.identity", '"spiffe://cluster.local/ns/shop/sa/stock"'],
  ["dst.cluster", '"Kubernetes"'],
  ["direction", '"outbound"'],
  ["bytes_sent", "812"],
  ["bytes_recv", "20480"],
  ["duration", '"31ms"'],
] as const;

test("a finished tunnel connection, plain: tabs, then Istio's fields in their order", () => {
  const fields = HBONE_FIELDS.map(([key, value]) => `${key}=${value}`).join(" ");
  assert.equal(closed("plain"), `${STAMP}\tinfo\taccess\tconnection complete\t${fields}\n`);
});

test("the same as JSON: one flat object, addresses as strings, byte counts as numbers", () => {
  const fields = HBONE_FIELDS.map(
    ([key, value]) =>
      `"${key}":${/\.|:/.test(value) && !value.startsWith('"') ? `"${value}"` : value}`,
  );
  assert.equal(
    closed("json"),
    `{"level":"info","time":"${STAMP}","scope":"access","message":"connection complete",${fields.join(",")}}\n`,
  );
});

const denied: Failure = {
  flag: "DENY",
  reason: "policy_explicit_deny",
  detail: 'denied by policy "shop/no\nnews"\t\u0001 é',
  policy: "shop/no-news",
};

test("a failure is an error with its sentence, reason and policy, escaped", () => {
  const line = closed("plain", {}, denied);
  assert.ok(line.startsWith(`${STAMP}\terror\taccess\tconnection complete\tsrc.addr=`));
  assert.ok(
    line.endsWith(
      ' duration="31ms" error="denied by policy \\"shop/no\\nnews\\"\\t\\u0001 é" reason="policy_explicit_deny" policy="shop/no-news"\n',
    ),
    line,
  );
  assert.equal(line.split("\n").length, 2, "one line, whatever the text");
});

test("a failure as JSON reads back", () => {
  const line = JSON.parse(closed("json", {}, denied)) as Record<string, unknown>;
  assert.deepEqual(
    [line["level"], line["error"], line["reason"], line["policy"], line["bytes_sent"]],
    ["error", denied.detail, "policy_explicit_deny", "shop/no-news", 812],
  );
});

test("a client's reset is told, but as success", () => {
  const line = closed("plain", {}, CLIENT_RESET);
  assert.match(line, /\tinfo\taccess\t/);
  assert.ok(line.endsWith(' duration="31ms" reason="client_reset"\n'), line);
});

test("plain TCP to an unknown place: no identities, no hbone address, unknown fields left out", () => {
  const line = closed("plain", {
    protocol: "TCP",
    source: addr("[fd00::9]:1"),
    destination: addr("[2001:db8::1]:443"),
    destinationWorkload: null,
    destinationIdentity: null,
    service: null,
  });
  assert.equal(
    line,
    `${STAMP}\tinfo\taccess\tconnection complete\tsrc.addr=[fd00::9]:1 src.workload="cart-7d9c4-x2x8p" src.namespace="shop" src.cluster="Kubernetes" dst.addr=[2001:db8::1]:443 direction="outbound" bytes_sent=812 bytes_recv=20480 duration="31ms"\n`,
  );
  const bare = closed("json", {
    direction: "inbound",
    protocol: "TCP",
    sourceWorkload: null,
    sourceIdentity: null,
    destinationWorkload: null,
    destinationIdentity: null,
    service: null,
  });
  assert.deepEqual(Object.keys(JSON.parse(bare) as object), [
    "level",
    "time",
    "scope",
    "message",
    "src.addr",
    "dst.addr",
    "direction",
    "bytes_sent",
    "bytes_recv",
    "duration",
  ]);
});

test("a workload without a pod's name goes by its canonical service", () => {
  const machine = workload("", { canonicalName: 'vm "7"', uid: "vm-7" });
  assert.match(closed("plain", { sourceWorkload: machine }), / src\.workload="vm \\"7\\"" /);
});

test("what connections share is remembered per pair of ends, not mixed up between them", () => {
  const lines = new Lines();
  const [other, same] = [workload("other", { namespace: "b" }), init()];
  for (const part of [
    {},
    { sourceWorkload: other },
    { service: null },
    { sourceIdentity: null },
    {},
  ])
    lines.log.closed(connection({ ...same, ...part }), null, OPENED);
  const [first, second, third, fourth, fifth] = lines.text.split("\n");
  assert.equal(first, fifth);
  assert.match(second ?? "", /src\.workload="other" src\.namespace="b"/);
  assert.doesNotMatch(third ?? "", /dst\.service/);
  assert.doesNotMatch(fourth ?? "", /src\.identity/);
});

for (const [format, want] of [
  [
    "plain",
    `${STAMP}\twarn\taccess\tconnection failed\tsrc.addr=10.0.0.9:5 dst.addr=[::1]:15001 direction="outbound" error="no" reason="self_call"\n`,
  ],
  [
    "json",
    `{"level":"warn","time":"${STAMP}","scope":"access","message":"connection failed","src.addr":"10.0.0.9:5","dst.addr":"[::1]:15001","direction":"outbound","error":"no","reason":"self_call"}\n`,
  ],
] as const)
  test(`refused before anything was known, ${format}`, () => {
    const lines = new Lines({ format });
    const failure: Failure = { flag: "CONNECT", reason: "self_call", detail: "no" };
    const from = addr("10.0.0.9:5");
    lines.log.denied("outbound", from, addr("[::1]:15001"), failure, OPENED + 31);
    assert.equal(lines.text, want);
    lines.log.denied("outbound", from, null, failure, OPENED + 31);
    assert.doesNotMatch(lines.text, /dst\.addr/);
  });

test("levels: off says nothing, info not that a connection opened, debug both, changed at any time", () => {
  const lines = new Lines({ level: "off" });
  const all = (): string => {
    lines.log.opened(connection(), OPENED + 31);
    lines.log.closed(connection(), null, OPENED + 31);
    lines.log.denied("inbound", init().source, null, denied, OPENED + 31);
    return lines.text;
  };
  assert.equal(all(), "");
  lines.log.level = "info";
  assert.equal(all().split("\n").length, 3);
  lines.log.level = "debug";
  const [opened] = all().split("\n");
  assert.match(opened ?? "", /\tdebug\taccess\tconnection opened\t.* direction="outbound"$/);
});

test("lines leave in batches of 64, the rest when asked", () => {
  const lines = new Lines();
  for (let n = 0; n < 130; n++) lines.log.closed(connection(), null, OPENED);
  assert.deepEqual(
    lines.batches.map((batch) => batch.split("\n").length - 1),
    [64, 64],
  );
  assert.ok(lines.log.hasLines);
  lines.log.flush();
  assert.equal(lines.batches.length, 3);
  lines.log.flush();
  assert.equal(lines.batches.length, 3, "nothing is nothing");
});

test("a clock set back gives no negative duration", () => {
  const lines = new Lines();
  lines.log.closed(connection(), null, OPENED - 5_000);
  assert.match(lines.text, /duration="0ms"/);
});

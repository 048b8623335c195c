import assert from "node:assert/strict";
import { test } from "node:test";
import { CliError } from "../errors.ts";
import { editDistance, suggest } from "../suggest.ts";
import { wantsJson } from "./output.ts";
import { parseGlob, parsePeerFilter, peerName, targetName } from "./peer.ts";
import { renderTable, type Column } from "./table.ts";
import { formatAge, formatBytes, formatDuration, parseDuration } from "./units.ts";

const COLUMNS: readonly Column<[string, string]>[] = [
  { header: "NAME", value: ([a]) => a },
  { header: "ID", value: ([, b]) => b, wide: true },
  { header: "AGE", value: () => "5m" },
];

test("a table pads with spaces and draws nothing", () => {
  assert.equal(
    renderTable(
      [
        ["client", "x"],
        ["a", "y"],
      ],
      COLUMNS,
    ),
    "NAME     AGE\nclient   5m\na        5m\n",
  );
});

test("wide columns appear only when asked, headers only when wanted", () => {
  assert.equal(
    renderTable([["a", "id"]], COLUMNS, { wide: true, gap: 1 }),
    "NAME ID AGE\na    id 5m\n",
  );
  assert.equal(renderTable([["a", "id"]], COLUMNS, { headers: false }), "a   5m\n");
});

test("a cell from outside cannot break the row or move the cursor", () => {
  assert.equal(renderTable([["a\n\u001b[2Jb", ""]], COLUMNS, { headers: false }), "a [2Jb   5m\n");
});

test("a row of empty cells leaves no trailing spaces", () => {
  assert.equal(renderTable([["", ""]], [COLUMNS[0]!], { headers: false }), "\n");
});

for (const [ms, want] of [
  [-5, "0s"],
  [42_000, "42s"],
  [119_999, "119s"],
  [310_000, "5m10s"],
  [1_800_000, "30m"],
  [4 * 3_600_000 + 60_000, "4h1m"],
  [30 * 3_600_000, "30h"],
  [3 * 86_400_000, "3d"],
  [3 * 86_400_000 + 7_200_000, "3d2h"],
  [40 * 86_400_000, "40d"],
  [Number.NaN, "<unknown>"],
] as const)
  test(`age of ${ms} ms is ${want}`, () => assert.equal(formatAge(ms), want));

for (const [bytes, want] of [
  [0, "0B"],
  [410.4, "410B"],
  [1023, "1023B"],
  [1300, "1.2Ki"],
  [98_304, "96Ki"],
  [2_500_000, "2.3Mi"],
] as const)
  test(`${bytes} bytes read as ${want}`, () => assert.equal(formatBytes(bytes), want));

test("durations are read as sums and refused with the way to write them", () => {
  assert.equal(parseDuration("1m30s"), 90_000);
  assert.equal(parseDuration("500ms"), 500);
  assert.equal(formatDuration(1_449), "1.4s");
  for (const bad of ["", "5", "s", "5 s", "1m-3s"])
    assert.throws(
      () => parseDuration(bad),
      (e) => e instanceof CliError && e.code === "USAGE",
    );
});

test("a client is named by pod, a destination by pod, service or address, with its port", () => {
  assert.equal(
    peerName({ namespace: "shop", pod: "client", address: "10.0.0.1:1" }),
    "shop/client",
  );
  assert.equal(peerName({ address: "192.0.2.1:9" }), "192.0.2.1:9");
  const pod = { namespace: "shop", pod: "cart", service: "cart.shop.svc", address: "[fd00::1]:80" };
  assert.equal(targetName(pod), "shop/cart:80");
  assert.equal(
    targetName({ service: "cart.shop.svc.cluster.local", address: "10.0.0.2:80" }),
    "svc/cart:80",
  );
});

test("peer filters select by kind, name, namespace and address", () => {
  const cart = {
    namespace: "shop",
    pod: "cart-1",
    workload: "cart",
    service: "cart.shop.svc",
    address: "10.0.0.2:80",
  };
  for (const yes of [
    "ns/shop",
    "pod/cart-1",
    "pod/cart-1.shop",
    "svc/cart",
    "svc/cart.shop",
    "deploy/cart",
    "cart",
    "10.0.0.2",
  ])
    assert.ok(parsePeerFilter(yes)(cart), yes);
  for (const no of ["ns/other", "pod/cart-1.other", "svc/car", "10.0.0.3"])
    assert.ok(!parsePeerFilter(no)(cart), no);
  assert.throws(() => parsePeerFilter("job/x"), CliError);
});

test("a glob's other characters mean themselves", () => {
  assert.ok(parseGlob("spiffe://*/ns/shop/*")("spiffe://cluster.local/ns/shop/sa/client"));
  assert.ok(!parseGlob("a.c")("abc"));
});

test("suggestions name what is near and only that", () => {
  assert.deepEqual(suggest("clint", ["client", "server", "cart"]), ["client"]);
  assert.deepEqual(suggest("zzz", ["client", "server"]), []);
  assert.equal(editDistance("tunnles", "tunnels"), 1);
});

test("JSON is recognised in every spelling, and not behind --", () => {
  for (const argv of [
    ["-o", "json"],
    ["-ojson"],
    ["--output=json"],
    ["--json"],
    ["x", "--output", "json"],
  ])
    assert.ok(wantsJson(argv), argv.join(" "));
  for (const argv of [["-o", "yaml"], ["--", "--json"], ["json"]])
    assert.ok(!wantsJson(argv), argv.join(" "));
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { ListPage } from "./list-page.ts";

const ITEMS = [
  { metadata: { name: "a", labels: {} }, list: [[1], [], { x: "]}" }] },
  { metadata: { name: 'quo"te\\', note: "{[ä€😀" }, spec: { data: "x".repeat(3_000) } },
  {},
];
const AROUND = { kind: "PodList", metadata: { resourceVersion: "7", continue: 't"[' } };

function read(text: string, size: () => number): { items: unknown[]; around: object } {
  const page = new ListPage();
  const items: unknown[] = [];
  const bytes = Buffer.from(text);
  for (let at = 0; at < bytes.length; ) {
    const to = at + size();
    items.push(...page.push(bytes.subarray(at, to)).map((item) => JSON.parse(item) as unknown));
    at = to;
  }
  return { items, around: page.finish() };
}

/** As typed kinds are written, and as custom resources are: their members sorted. */
const FORMS = [
  JSON.stringify({ ...AROUND, items: ITEMS }),
  JSON.stringify({ items: ITEMS, ...AROUND }, null, 2),
];

for (const [i, text] of FORMS.entries())
  test(`form ${i}: items and frame are the same whole, byte by byte and at random cuts`, () => {
    const wanted = { items: ITEMS, around: { ...AROUND, items: [] } };
    assert.deepEqual(
      read(text, () => text.length * 4),
      wanted,
    );
    assert.deepEqual(
      read(text, () => 1),
      wanted,
    );
    let seed = 11;
    for (let round = 0; round < 100; round++)
      assert.deepEqual(
        read(text, () => (seed = (seed * 48_271) % 2_147_483_647) % 61 || 1),
        wanted,
      );
  });

test("empty lists, null items, and what is no list", () => {
  assert.deepEqual(read('{"items":[],"metadata":{}}', () => 5).items, []);
  assert.deepEqual(read('{"items":null,"metadata":{}}', () => 5).items, []);
  for (const bad of ['{"items":[{"a":1},', "<html>", "[1]", "", '{"items":[{}]'])
    assert.throws(() => read(bad, () => 3), /list/, bad);
});

test("an endless item is refused before it fills the memory", () => {
  const page = new ListPage();
  page.push(Buffer.from('{"items":[{"a":"'));
  const piece = Buffer.alloc(1024 * 1024, 0x20);
  assert.throws(() => {
    for (let i = 0; i < 20; i++) page.push(piece);
  }, /item of over/);
});

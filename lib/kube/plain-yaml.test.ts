// The fast reader against the full one: equal values, or a refusal.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseAllDocuments } from "yaml";
import { parsePlainYaml } from "./plain-yaml.ts";

function full(text: string): unknown[] {
  return [...parseAllDocuments(text)].map((d) => {
    if (d.errors.length > 0) throw new Error(d.errors[0]?.message);
    return d.toJS() as unknown;
  });
}

const PLAIN = [
  "a: 1\nb: -7\nc: 0\n",
  "a:\n  b:\n    - 1\n    - x: y\n      z: w\n    -\n      q: r\n",
  "a:\n- 1\n- 2\nb: c\n",
  "a: 'it''s'\nb: \"x\\ny\"\nc: ''\nd: \"\"\n",
  "a: {}\nb: []\nc: ~\nd:\ne: true\nf: False\n",
  "'quoted/key': v\n\"another\": w\n80: x\n",
  "ip: 10.0.0.1\nv6: fd00::2\ntime: 2026-01-01T00:00:00Z\nimage: registry:5000/x:v1\n",
  "# comment\n---\na: 1\n---\n\n---\nb: 2\n",
  "list:\n- - a\n  - b\n- - c\n",
  "a: b c  d\ntrail: x   \n",
  "spec:\n  - name: c\n    ports:\n    - name: http\n      containerPort: 8080\n  - name: d\n",
];
for (const text of PLAIN)
  test(`reads ${JSON.stringify(text.slice(0, 30))} as the full parser does`, () => {
    const fast = parsePlainYaml(text);
    assert.notEqual(fast, null);
    assert.deepEqual(
      fast,
      full(text).filter((v) => v !== null),
    );
  });

const REFUSED = [
  "a: &x 1\nb: *x\n",
  "a: |\n  text\n",
  "a: >-\n  text\n",
  "a: {b: c}\n",
  "a: [1, 2]\n",
  "a: 1 # comment\n",
  "a: one\n  two\n",
  "a: 0x10\nb: 1.5\n",
  "a: !!str 1\n",
  "a: 1\na: 2\n",
  "? a\n: b\n",
  "a: b: c\n",
  "a:\n\t- b\n",
  "just a scalar\n",
  "%YAML 1.2\n---\na: 1\n",
  "null: 1\n",
  "__proto__: 1\n",
  "a: 1\n b: 2\n",
  "  a: 1\nb: 2\n",
  "a:\n- 1\n b: 2\n",
];
for (const text of REFUSED)
  test(`leaves ${JSON.stringify(text)} to the full parser`, () =>
    assert.equal(parsePlainYaml(text), null));

test("random mutations never make the two differ", () => {
  let seed = 7;
  const random = (n: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fff_ffff;
    return (seed >>> 8) % n;
  };
  const bits = [
    "\n",
    "  ",
    "- ",
    ": ",
    ":",
    "#",
    " #",
    "'",
    '"',
    "a",
    "1",
    "{}",
    "[]",
    "~",
    "-",
    ".",
  ];
  let compared = 0;
  for (let i = 0; i < 3000; i++) {
    let text = PLAIN[random(PLAIN.length)] ?? "";
    for (let n = random(3) + 1; n > 0; n--) {
      const at = random(text.length + 1);
      text = text.slice(0, at) + (bits[random(bits.length)] ?? "") + text.slice(at + random(2));
    }
    const fast = parsePlainYaml(text);
    if (fast === null) continue;
    compared++;
    assert.deepEqual(
      fast,
      full(text).filter((v) => v !== null),
      JSON.stringify(text),
    );
  }
  assert.ok(compared > 300, `only ${compared} compared`);
});

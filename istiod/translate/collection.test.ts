// The engine alone: who is recomputed when, and that a fault stays where it is.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Derived, Source, Union } from "./collection.ts";

interface Item {
  readonly group: string;
  readonly value: number;
}

function setup(): {
  items: Source<Item>;
  sums: Derived<number, number>;
  limits: Source<number>;
  runs: string[];
  round: () => [string, number | undefined][];
} {
  const items = new Source<Item>("items");
  const limits = new Source<number>("limits");
  const byGroup = items.index((i) => [i.group]);
  const runs: string[] = [];
  /** For each limit, the sum of the group's values above it. */
  const sums = Derived.each<number, number>("sums", limits, (limit, reads, key) => {
    runs.push(key);
    const above = reads.index(byGroup, key, (i) => i.value > limit);
    return above.length === 0 ? [] : [[key, above.reduce((n, i) => n + i.value, 0)]];
  });
  const round = (): [string, number | undefined][] => {
    sums.refresh();
    const changes = [...sums.changes()].map((c): [string, number | undefined] => [c.key, c.after]);
    for (const table of [items, limits, sums]) table.settle();
    return changes;
  };
  return { items, sums, limits, runs, round };
}

test("only readers of what changed run again, and filters narrow that", () => {
  const { items, limits, runs, round } = setup();
  limits.set("a", 10);
  limits.set("b", 10);
  items.set("1", { group: "a", value: 20 });
  assert.deepEqual(round(), [["a", 20]]);
  runs.length = 0;
  items.set("2", { group: "b", value: 5 }); // below b's limit
  assert.deepEqual(round(), []);
  assert.deepEqual(runs, []);
  items.set("2", { group: "b", value: 15 });
  assert.deepEqual(round(), [["b", 15]]);
  items.set("2", { group: "a", value: 15 }); // leaves b, joins a
  assert.deepEqual(
    round().sort(([a], [b]) => a.localeCompare(b)),
    [
      ["a", 35],
      ["b", undefined],
    ],
  );
  limits.delete("a");
  assert.deepEqual(round(), [["a", undefined]]);
});

test("an equal value is no change, and there and back in one round is none either", () => {
  const { items, limits, round } = setup();
  limits.set("a", 0);
  items.set("1", { group: "a", value: 1 });
  round();
  items.set("1", { group: "a", value: 1 });
  assert.equal(items.hasChanges, false);
  items.set("2", { group: "a", value: 2 });
  items.delete("2");
  assert.equal(items.hasChanges, false);
});

test("groups come and go with their members", () => {
  const items = new Source<Item>("items");
  const counts = Derived.groups(
    "counts",
    items.index((i) => [i.group]),
    (key, members) => [[key, members.length] as const],
  );
  const all = new Union("all", [counts]);
  const round = (): Record<string, number> => {
    counts.refresh();
    all.refresh();
    for (const table of [items, counts, all]) table.settle();
    return Object.fromEntries([...all.keys()].map((key) => [key, all.get(key) ?? 0]));
  };
  items.set("1", { group: "a", value: 1 });
  items.set("2", { group: "a", value: 1 });
  assert.deepEqual(round(), { a: 2 });
  items.set("2", { group: "b", value: 1 });
  assert.deepEqual(round(), { a: 1, b: 1 });
  items.delete("1");
  assert.deepEqual(round(), { b: 1 });
});

test("a transform that throws keeps its input's last outputs and no one else's", () => {
  const items = new Source<Item>("items");
  const doubled = Derived.each("doubled", items, ({ value }, _reads, key) => {
    if (value < 0) throw new Error("negative");
    return [[key, value * 2] as const];
  });
  items.set("1", { group: "", value: 1 });
  doubled.refresh();
  items.set("1", { group: "", value: -1 });
  items.set("2", { group: "", value: 2 });
  doubled.refresh();
  assert.deepEqual([doubled.get("1"), doubled.get("2")], [2, 4]);
  assert.deepEqual(
    doubled.takeFaults().map((f) => [f.table, f.input]),
    [["doubled", "1"]],
  );
  assert.deepEqual(doubled.takeFaults(), []);
});

// A short fuzz run of every parser, and proof that the fuzzer notices what it is for.
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { seededRandom } from "#lib/wire/traceparent.ts";
import { DEFAULT_LIMITS, fuzz } from "./harness.ts";
import { Mutator } from "./mutate.ts";
import { superviseFuzz } from "./supervise.ts";
import type { FuzzTarget } from "./target.ts";
import { utf8 } from "./target.ts";
import { targetFiles } from "./targets.ts";

const SEED = 1;
const TOTAL_MS = 1500;

for (const file of targetFiles())
  test(`fuzz ${file.name}`, { timeout: 30_000 }, async () => {
    const report = await superviseFuzz({
      targetPath: file.path,
      seed: SEED,
      ms: TOTAL_MS / targetFiles().length,
      limits: DEFAULT_LIMITS,
    });
    const { finding } = report;
    assert.equal(
      finding,
      null,
      finding === null
        ? ""
        : `${finding.what} with seed ${SEED}: ${finding.detail}\n` +
            `node test/fuzz/run.ts --target ${file.name} --input ${Buffer.from(finding.input).toString("hex")}`,
    );
    assert.ok(report.runs > 0);
  });

const planted = (run: FuzzTarget["run"], refusals: FuzzTarget["refusals"] = []): FuzzTarget => ({
  name: "planted",
  corpus: utf8("abc"),
  refusals,
  run,
});

function hunt(target: FuzzTarget, limits = DEFAULT_LIMITS): ReturnType<typeof fuzz> {
  return fuzz(target, SEED, performance.now() + 2000, limits, () => {});
}

test("a throw that is no refusal is a finding, with its input", () => {
  const report = hunt(
    planted((bytes) => {
      if (bytes.length > 3 && bytes[0] === 0xff) throw new TypeError("planted");
      return "fine";
    }),
  );
  assert.equal(report.finding?.what, "throw");
  assert.match(report.finding?.detail ?? "", /TypeError: planted/);
  assert.equal(report.finding?.input[0], 0xff);
});

test("a declared refusal is an outcome", () => {
  const target = planted(
    (bytes) => {
      if (bytes.length !== 3) throw new RangeError("length");
      return "fine";
    },
    [RangeError],
  );
  const report = fuzz(target, SEED, performance.now() + 50, DEFAULT_LIMITS, () => {});
  assert.equal(report.finding, null);
  assert.deepEqual([...report.outcomes.keys()].toSorted(), ["fine", "refused RangeError"]);
});

test("a run that is slow every time is a finding", () => {
  const report = hunt(
    planted((bytes) => {
      if (bytes.length > 20) for (const end = performance.now() + 30; performance.now() < end; );
      return "fine";
    }),
    { ...DEFAULT_LIMITS, slowMs: 10 },
  );
  assert.equal(report.finding?.what, "slow");
  assert.ok((report.finding?.input.length ?? 0) > 20);
});

test("inputs with a new outcome are built upon", () => {
  // Three octets in a row are out of reach of chance; learning finds them one by one.
  const report = hunt(
    planted((bytes) => {
      const secret = Buffer.from("XYZ");
      let matched = 0;
      while (matched < 3 && bytes[matched] === secret[matched]) matched++;
      if (matched === 3) throw new Error("found");
      return `${matched} right`;
    }),
  );
  assert.equal(report.finding?.what, "throw");
});

test("a target that cannot be loaded is a finding", { timeout: 20_000 }, async () => {
  const report = await superviseFuzz({
    targetPath: join(import.meta.dirname, "absent.ts"),
    seed: SEED,
    ms: 10,
    limits: DEFAULT_LIMITS,
  });
  assert.equal(report.finding?.what, "crash");
});

for (const [name, input] of [
  ["hang", [0, 0]],
  ["heap", [7]],
] as const)
  test(`a ${name} ends the worker, and its input is known`, { timeout: 30_000 }, async () => {
    const report = await superviseFuzz({
      targetPath: join(import.meta.dirname, "planted", `${name}.ts`),
      seed: SEED,
      ms: 10,
      limits: DEFAULT_LIMITS,
      hangMs: name === "hang" ? 1000 : 20_000,
      maxHeapMb: 64,
    });
    assert.equal(report.finding?.what, name === "hang" ? "hang" : "crash");
    assert.deepEqual([...(report.finding?.input ?? [])], input);
  });

test("one seed makes one sequence of bounded inputs", () => {
  const sequence = (): string[] => {
    const mutator = new Mutator(seededRandom([1, 2, 3, 4]), ["word"], 1000);
    return Array.from({ length: 500 }, () =>
      Buffer.from(mutator.next(utf8("abc", "x".repeat(900)))).toString("latin1"),
    );
  };
  const first = sequence();
  assert.deepEqual(sequence(), first);
  assert.ok(new Set(first).size > 400);
  assert.ok(first.every((input) => input.length <= 1000));
});

// Conditions as Kubernetes keeps them, in one table.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Condition } from "#lib/kube/objects.ts";
import { mergeConditions } from "./merge-conditions.ts";

const OWNED = new Set(["Bound", "Missing"]);
const NOW = "2026-01-02T00:00:00Z";
const THEN = "2026-01-01T00:00:00Z";
const of = (type: string, status: Condition["status"], extra: object = {}): Condition => ({
  type,
  status,
  reason: "R",
  message: "m",
  ...extra,
});
const at = (time: string): object => ({ lastTransitionTime: time });
const other = of("Ready", "True", at(THEN));

for (const c of [
  {
    name: "a new one is dated and comes last",
    live: [other],
    wanted: [of("Bound", "True")],
    want: [other, of("Bound", "True", at(NOW))],
  },
  {
    name: "an equal one is no write",
    live: [of("Bound", "True", at(THEN)), other],
    wanted: [of("Bound", "True")],
    want: null,
  },
  {
    name: "another message keeps the time",
    live: [of("Bound", "True", at(THEN)), other],
    wanted: [of("Bound", "True", { message: "n" })],
    want: [of("Bound", "True", { message: "n", ...at(THEN) }), other],
  },
  {
    name: "another generation is written and keeps the time",
    live: [of("Bound", "True", { observedGeneration: 1, ...at(THEN) })],
    wanted: [of("Bound", "True", { observedGeneration: 2 })],
    want: [of("Bound", "True", { observedGeneration: 2, ...at(THEN) })],
  },
  {
    name: "another status moves the time",
    live: [of("Bound", "True", at(THEN))],
    wanted: [of("Bound", "False")],
    want: [of("Bound", "False", at(NOW))],
  },
  {
    name: "an own one that no longer holds goes, others stay",
    live: [of("Missing", "True", at(THEN)), other],
    wanted: [],
    want: [other],
  },
  { name: "nothing to say and nothing there", live: [other], wanted: [], want: null },
  {
    name: "a second one of an own type goes",
    live: [of("Bound", "True", at(THEN)), of("Bound", "False", at(THEN))],
    wanted: [of("Bound", "True")],
    want: [of("Bound", "True", at(THEN))],
  },
])
  test(`conditions: ${c.name}`, () => {
    assert.deepEqual(mergeConditions(c.live, c.wanted, OWNED, NOW), c.want);
  });

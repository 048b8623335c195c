// Selectors in all their forms, against label sets.
import assert from "node:assert/strict";
import { test } from "node:test";
import { KubeError } from "./errors.ts";
import {
  compileLabelSelector,
  nonEmptySelects,
  parseFieldSelector,
  parseLabelSelector,
  selects,
} from "./labels.ts";

const LABELS = { app: "web", tier: "front", "example.org/x": "" };
for (const [text, want] of [
  ["", true],
  ["app=web", true],
  ["app == web", true],
  ["app=api", false],
  ["app!=api", true],
  ["gone!=x", true],
  ["gone=", false],
  ["example.org/x=", true],
  ["app in (web, api)", true],
  ["app in (api)", false],
  ["gone in (a)", false],
  ["app notin (api)", true],
  ["gone notin (a)", true],
  ["tier", true],
  ["gone", false],
  ["!gone", true],
  ["!tier", false],
  ["app in (web,api),tier=front, !gone", true],
  ["app=web,tier=back", false],
  ["constructor", false],
] as const)
  test(`label selector ${JSON.stringify(text)} is ${want}`, () =>
    assert.equal(parseLabelSelector(text)(LABELS), want));

for (const text of ["=x", "a=b c", "a in b", "a in (b", ",", "a>1", "!"])
  test(`label selector ${JSON.stringify(text)} is refused`, () =>
    assert.throws(
      () => parseLabelSelector(text),
      (e) => e instanceof KubeError && e.code === "INVALID",
    ));

test("selector objects: pairs and expressions all hold; an empty one matches everything", () => {
  const match = (selector: Parameters<typeof compileLabelSelector>[0]): boolean =>
    compileLabelSelector(selector)(LABELS);
  assert.equal(match({}), true);
  assert.equal(match({ matchLabels: { app: "web" } }), true);
  assert.equal(
    match({ matchExpressions: [{ key: "app", operator: "In", values: ["web"] }] }),
    true,
  );
  assert.equal(
    match({ matchExpressions: [{ key: "app", operator: "NotIn", values: ["web"] }] }),
    false,
  );
  assert.equal(
    match({ matchExpressions: [{ key: "gone", operator: "NotIn", values: ["a"] }] }),
    true,
  );
  assert.equal(match({ matchExpressions: [{ key: "gone", operator: "DoesNotExist" }] }), true);
  assert.equal(
    match({ matchLabels: { app: "web" }, matchExpressions: [{ key: "gone", operator: "Exists" }] }),
    false,
  );
  assert.throws(() => match({ matchExpressions: [{ key: "app", operator: "In" }] }), KubeError);
  assert.throws(
    () => match({ matchExpressions: [{ key: "app", operator: "Exists", values: ["a"] }] }),
    KubeError,
  );
});

test("an empty pair selector selects everything, or nothing, as asked", () => {
  assert.equal(selects({}, undefined), true);
  assert.equal(nonEmptySelects({}, LABELS), false);
  assert.equal(nonEmptySelects(undefined, LABELS), false);
  assert.equal(nonEmptySelects({ app: "web" }, LABELS), true);
  assert.equal(nonEmptySelects({ app: "web" }, undefined), false);
});

test("field selectors compare dotted paths as text", () => {
  const object = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "a" },
    spec: { nodeName: "n1", hostNetwork: true },
  };
  for (const [text, want] of [
    ["", true],
    ["spec.nodeName=n1", true],
    ["spec.nodeName!=n1", false],
    ["metadata.name=a,spec.hostNetwork=true", true],
    ["spec.gone=", true],
    ["spec.gone.deeper=x", false],
  ] as const)
    assert.equal(parseFieldSelector(text)(object), want, text);
  assert.throws(() => parseFieldSelector("spec.nodeName"), KubeError);
});

// The renderer's parts; that the whole makes what kubectl kustomize makes is test/kube/api/cli-install.test.ts.
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { test } from "node:test";
import type { JsonObject } from "#lib/kube/json.ts";
import { applySettings, parseSettings } from "../install/settings.ts";
import { readValues } from "../install/values-file.ts";
import { planStages, STAGES } from "../install/stages.ts";
import { splitImage } from "./images.ts";
import { jsonPatch } from "./json-patch.ts";
import { renderKustomization } from "./render.ts";

for (const c of [
  { image: "ambit", name: "ambit", suffix: "" },
  { image: "ambit:dev", name: "ambit", suffix: ":dev" },
  { image: "reg:5000/a/ambit", name: "reg:5000/a/ambit", suffix: "" },
  { image: "reg:5000/ambit:1@sha256:ab", name: "reg:5000/ambit", suffix: ":1@sha256:ab" },
])
  test(`image ${c.image}`, () =>
    assert.deepEqual(splitImage(c.image), { name: c.name, suffix: c.suffix }));

test("a JSON patch adds, replaces, removes, moves, copies, tests; and says where it fails", () => {
  const o: JsonObject = { a: { "b/c": [1, 2] }, d: 1 };
  const patched = jsonPatch(
    o,
    [
      { op: "test", path: "/d", value: 1 },
      { op: "add", path: "/a/b~1c/-", value: 3 },
      { op: "add", path: "/a/b~1c/0", value: 0 },
      { op: "replace", path: "/d", value: 2 },
      { op: "copy", from: "/d", path: "/e" },
      { op: "move", from: "/e", path: "/f" },
      { op: "remove", path: "/a/b~1c/1" },
    ],
    "p",
  );
  assert.deepEqual(patched, { a: { "b/c": [0, 2, 3] }, d: 2, f: 2 });
  assert.deepEqual(o, { a: { "b/c": [1, 2] }, d: 1 });
  for (const [operation, message] of [
    [{ op: "replace", path: "/x", value: 1 }, /p\[0\]: nothing at \/x/],
    [{ op: "remove", path: "/a/nope" }, /nothing at \/a\/nope/],
    [{ op: "test", path: "/d", value: 9 }, /not as the test says/],
    [{ op: "frob", path: "/d" }, /no such operation: "frob"/],
  ] as const)
    assert.throws(() => jsonPatch(o, [operation], "p"), message);
});

test("what a kustomization asks for and we do not do is an error that names it", async () => {
  await using dir = await mkdtempDisposable(join(tmpdir(), "ambit-kustomize-"));
  const put = (file: string, text: string): void => {
    mkdirSync(dirname(join(dir.path, file)), { recursive: true });
    writeFileSync(join(dir.path, file), text);
  };
  const render = () => renderKustomization(dir.path);
  await assert.rejects(render(), /holds no kustomization.yaml/);
  for (const [text, message] of [
    ["helmCharts: []", /helmCharts is not carried out by ambit/],
    ["resources: [nope.yaml]", /Cannot read .*nope.yaml: no such file/],
    ["resources: nope.yaml", /resources: expected a list of texts/],
    ["resources: [.]", /refer in circles/],
    ["resources: [a.yaml, b.yaml]", /configmap\/a is there twice/],
    ["resources: [a.yaml]\npatches: [{ path: p.yaml }]", /p.yaml changes nothing/],
    [
      "resources: [a.yaml]\npatches: [{ patch: '{kind: ConfigMap, apiVersion: v1, metadata: {name: a}, data: {$patch: x}}' }]",
      /a patch: data has an unknown \$patch: "x"/,
    ],
    ["patches: [{ target: { kind: X } }]", /patches\[0\]: expected either path or patch/],
  ] as const) {
    put("a.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: a }\n");
    put("b.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: a }\n");
    put("p.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: { name: other }\n");
    put("kustomization.yaml", text);
    await assert.rejects(render(), message);
  }
});

test("settings change image, pull policy and mesh configuration, and the image others are told", async () => {
  const objects: JsonObject[] = [
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name: "istiod" },
      spec: {
        template: {
          spec: {
            containers: [
              {
                name: "d",
                image: "ambit:dev",
                env: [{ name: "WAYPOINT_IMAGE", value: "ambit:dev" }],
              },
            ],
          },
        },
      },
    },
    {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { name: "istio" },
      data: { mesh: "# kept\ntrustDomain: a\n" },
    },
  ];
  const words = ["hub=reg.example.org/x/", "tag=7", "imagePullPolicy=Always"];
  const settings = parseSettings([...words, "meshConfig.trustDomain=b", "meshConfig.a.b=2"]);
  const [deployment, config] = await applySettings(objects, settings);
  const text = JSON.stringify(deployment);
  assert.equal(text.split("reg.example.org/x/ambit:7").length, 3, text);
  assert.match(text, /"imagePullPolicy":"Always"/);
  assert.deepEqual(config?.["data"], { mesh: "# kept\ntrustDomain: b\na:\n  b: 2\n" });
});

test("stages: definitions first, the agent before the ztunnels, what objects need before them", () => {
  const of = (kind: string, name: string): JsonObject => ({ kind, metadata: { name } });
  const plan = planStages([
    of("DaemonSet", "ztunnel"),
    of("Deployment", "istiod"),
    of("ServiceAccount", "istiod"),
    of("Namespace", "istio-system"),
    of("DaemonSet", "istio-cni-node"),
    of("CustomResourceDefinition", "x"),
  ]);
  assert.deepEqual(
    plan.map((p) => p.stage),
    STAGES,
  );
  assert.deepEqual(
    plan[1]?.objects.map((o) => o["kind"]),
    ["Namespace", "ServiceAccount", "Deployment"],
  );
});

test("-f gives what --set gives, and flags go before it", async () => {
  const io = { stdin: async () => "image: a/b:1\nmeshConfig: { trustDomain: b, a: { b: 2 } }\n" };
  const words = await readValues(["-"], io);
  assert.deepEqual(words, ["image=a/b:1", 'meshConfig.trustDomain="b"', "meshConfig.a.b=2"]);
  const settings = parseSettings([...words, "image=c/d:2"]);
  assert.equal(settings.image, "c/d:2");
  for (const [text, message] of [
    ["[1]", /no mapping/],
    ["a: b: c", /no YAML/],
    ["kind: IstioOperator", /IstioOperator, which ambit does not read/],
  ] as const)
    await assert.rejects(readValues(["-"], { stdin: async () => text }), { message });
  await assert.rejects(readValues(["/nix"], io), { message: "Cannot read /nix: no such file" });
});

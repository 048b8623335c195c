// Gateways as the objects they become: golden files, then what is refused, in a table.
// `UPDATE_GOLDEN=1 node --test istiod/gateway/render.test.ts` writes the files anew.
import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { test } from "node:test";
import { parseAllDocuments, stringify } from "yaml";
import type { ConfigMap, Gateway } from "#lib/kube/objects.ts";
import { WAYPOINT_CLASS } from "./classes.ts";
import { CLASS_DEFAULTS } from "./keys.ts";
import { parametersOf } from "./overlays.ts";
import { render, type Rendering } from "./render.ts";
import { PROGRAM, SETTINGS, waypointGateway } from "./test-gateway.ts";

const golden = new URL("golden/", import.meta.url);

for (const file of readdirSync(golden).filter((f) => f.endsWith(".in.yaml")))
  test(`rendered: ${file.replace(".in.yaml", "")}`, () => {
    const documents = parseAllDocuments(readFileSync(new URL(file, golden), "utf8"));
    const objects = documents.map((d) => d.toJS() as Gateway | ConfigMap);
    const gateway = objects.find((o) => o.kind === "Gateway") as Gateway;
    const configMaps = objects.filter((o): o is ConfigMap => o.kind === "ConfigMap");
    const rendering = rendered(gateway, configMaps);
    assert.equal(rendering.kind, "objects");
    const shown = (rendering.kind === "objects" ? rendering.objects : [])
      .map(({ object }) => stringify(object, { aliasDuplicateObjects: false, lineWidth: 100 }))
      .join("---\n");
    const out = new URL(file.replace(".in.", ".out."), golden);
    if (process.env["UPDATE_GOLDEN"] === "1") writeFileSync(out, shown);
    assert.equal(shown, readFileSync(out, "utf8"));
  });

function rendered(gateway: Gateway, configMaps: readonly ConfigMap[]): Rendering {
  const defaults = configMaps.filter((c) => c.metadata.labels?.[CLASS_DEFAULTS] !== undefined);
  const named = configMaps.filter((c) => !defaults.includes(c));
  const parameters = parametersOf(
    gateway,
    defaults,
    (name) => named.find((c) => c.metadata.name === name) ?? null,
  );
  if (parameters.kind !== "overlays")
    return { kind: "invalid", message: parameters.kind === "invalid" ? parameters.message : "" };
  const { overlays } = parameters;
  return render(gateway, {
    managedClass: WAYPOINT_CLASS,
    settings: SETTINGS,
    program: PROGRAM,
    overlays,
    deployedSelector: null,
  });
}

const options = (data: Record<string, string>): ConfigMap => ({
  apiVersion: "v1",
  kind: "ConfigMap",
  metadata: { name: "options", namespace: "shop" },
  data,
});
const withOptions = {
  infrastructure: { parametersRef: { group: "", kind: "ConfigMap", name: "options" } },
};

for (const c of [
  {
    name: "a missing ConfigMap",
    data: null,
    want: "infrastructure.parametersRef names ConfigMap shop/options, which does not exist",
  },
  {
    name: "an unknown key",
    data: { deployments: "spec: {}" },
    want: 'ConfigMap shop/options has the key "deployments", expected deployment, service, serviceAccount, horizontalPodAutoscaler, podDisruptionBudget',
  },
  {
    name: "no YAML",
    data: { service: "spec: {" },
    want: /^ConfigMap shop\/options, service is no YAML: /,
  },
  {
    name: "no mapping",
    data: { service: "[]" },
    want: "ConfigMap shop/options, service is no mapping",
  },
  {
    name: "aliases without end",
    data: {
      service: `a: &a [x,x,x,x,x,x,x,x]\n${"bcdef"
        .split("")
        .map((l, i) => `${l}: &${l} [${Array<string>(8).fill(`*${"abcde"[i]}`).join(",")}]\n`)
        .join("")}`,
    },
    want: /^ConfigMap shop\/options, service is no YAML: /,
  },
  {
    name: "depth without end",
    data: { service: "[".repeat(100_000) },
    want: /^ConfigMap shop\/options, service is no YAML: /,
  },
  {
    name: "a list entry without its key",
    data: { deployment: "spec: {template: {spec: {containers: [{image: x}]}}}" },
    want: "ConfigMap shop/options, deployment: spec.template.spec.containers[0] has no name, which tells entries apart",
  },
  ...[
    "name: x",
    "namespace: x",
    "uid: x",
    "resourceVersion: x",
    "finalizers: [x]",
    "ownerReferences: null",
    "managedFields: []",
  ].map((field) => ({
    name: `metadata.${field}`,
    data: { service: `metadata: {${field}}` },
    want: `ConfigMap shop/options, service: metadata.${field.split(":")[0]} cannot be changed by an overlay`,
  })),
  {
    name: "another kind",
    data: { service: "kind: Pod" },
    want: "ConfigMap shop/options, service: kind cannot be changed by an overlay",
  },
  {
    name: "what marks it as ours",
    data: { service: "metadata: {labels: {gateway.istio.io/managed: null}}" },
    want: "ConfigMap shop/options, service: the label gateway.istio.io/managed cannot be changed by an overlay",
  },
])
  test(`an overlay may not have ${c.name}`, () => {
    const rendering = rendered(
      waypointGateway({ spec: withOptions }),
      c.data === null ? [] : [options(c.data)],
    );
    assert.equal(rendering.kind, "invalid");
    const message = rendering.kind === "invalid" ? rendering.message : "";
    if (typeof c.want === "string") assert.equal(message, c.want);
    else assert.match(message, c.want);
  });

for (const c of [
  {
    name: "names longer than a label",
    gateway: waypointGateway({ metadata: { name: "w".repeat(64) } }),
    want: /64 characters, at most 63/,
  },
  {
    name: "names that no Service can have",
    gateway: waypointGateway({ metadata: { name: "7.waypoint" } }),
    want: 'The name of the Gateway is no name of a Service: "7.waypoint"',
  },
  {
    name: "overrides that no Service can have",
    gateway: waypointGateway({
      metadata: { annotations: { "gateway.istio.io/name-override": "A" } },
    }),
    want: 'The annotation gateway.istio.io/name-override is no name of a Service: "A"',
  },
  {
    name: "account names with a slash",
    gateway: waypointGateway({
      metadata: { annotations: { "gateway.istio.io/service-account": "a/b" } },
    }),
    want: 'The annotation gateway.istio.io/service-account is no name of a ServiceAccount: "a/b"',
  },
  {
    name: "unknown service types",
    gateway: waypointGateway({
      metadata: { annotations: { "networking.istio.io/service-type": "Any" } },
    }),
    want: 'The annotation networking.istio.io/service-type is "Any", expected ClusterIP, NodePort, LoadBalancer',
  },
  {
    name: "parameters of other kinds",
    gateway: waypointGateway({
      spec: {
        infrastructure: { parametersRef: { group: "example.org", kind: "Options", name: "x" } },
      },
    }),
    want: "infrastructure.parametersRef names a example.org/Options, expected a ConfigMap",
  },
])
  test(`nothing is rendered for ${c.name}`, () => {
    const rendering = rendered(c.gateway, []);
    const message = rendering.kind === "invalid" ? rendering.message : "rendered";
    if (typeof c.want === "string") assert.equal(message, c.want);
    else assert.match(message, c.want);
  });

test("a Deployment from before Istio 1.24 keeps its selector, and its Pods match it", () => {
  const deployedSelector = { "istio.io/gateway-name": "waypoint" };
  const inputs = {
    managedClass: WAYPOINT_CLASS,
    settings: SETTINGS,
    program: PROGRAM,
    overlays: [],
    deployedSelector,
  };
  const rendering = render(waypointGateway(), inputs);
  assert(rendering.kind === "objects");
  const deployment = rendering.objects.find((o) => o.resource.kind === "Deployment");
  assert(deployment !== undefined);
  const { spec } = deployment.object as unknown as {
    spec: { selector: object; template: { metadata: { labels: Record<string, string> } } };
  };
  assert.deepEqual(spec.selector, { matchLabels: deployedSelector });
  assert.equal(spec.template.metadata.labels["istio.io/gateway-name"], "waypoint");
  assert.equal(spec.template.metadata.labels["gateway.networking.k8s.io/gateway-name"], "waypoint");
});

test("settings: a revision, a network, a pull policy, nothing copied", () => {
  const settings = {
    ...SETTINGS,
    revision: "canary",
    network: "west",
    copiesMetadata: false,
  };
  const program = { image: "ambit:dev", imagePullPolicy: "Never" };
  const inputs = {
    managedClass: WAYPOINT_CLASS,
    settings,
    program,
    overlays: [],
    deployedSelector: null,
  };
  const gateway = waypointGateway({ metadata: { labels: { team: "a" } } });
  const rendering = render(gateway, inputs);
  assert(rendering.kind === "objects");
  const text = JSON.stringify(rendering.objects);
  for (const part of [
    '"topology.istio.io/network":"west"',
    '"istio.io/rev":"canary"',
    '"imagePullPolicy":"Never"',
    '"value":"istiod-canary.istio-system.svc:15012"',
    '{"name":"ISTIO_META_NETWORK","value":"west"}',
  ])
    assert(text.includes(part), part);
  assert(!text.includes('"team"'));
});

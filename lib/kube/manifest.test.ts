// Manifest texts: what is read from them, and where a fault is said to be.
import assert from "node:assert/strict";
import { test } from "node:test";
import { identityKey, parseManifest } from "./manifest.ts";

function head(kind: string, rest = "", apiVersion = "v1"): string {
  return `apiVersion: ${apiVersion}\nkind: ${kind}\nmetadata:\n  name: x\n${rest}`;
}

const FAULTS = [
  { name: "no mapping", text: "just text\n", want: /f\.yaml:1: object: expected a mapping/ },
  {
    name: "no apiVersion",
    text: "kind: Pod\nmetadata: {name: x}\n",
    want: /apiVersion: is required/,
  },
  {
    name: "no name",
    text: "apiVersion: v1\nkind: Pod\nmetadata: {}\n",
    want: /f\.yaml:3: metadata\.name: is required/,
  },
  {
    name: "number as label",
    text: head("Pod", "  labels:\n    version: 1\n"),
    want: /f\.yaml:6: metadata\.labels\["version"\]: expected text, got 1 \(put it in quotes\)/,
  },
  {
    name: "label value",
    text: head("Pod", "  labels: {a: 'b c'}\n"),
    want: /expected a label value/,
  },
  { name: "label key", text: head("Pod", "  labels: {'a b': c}\n"), want: /expected a label key/ },
  {
    name: "name with dots",
    text: "apiVersion: v1\nkind: Service\nmetadata: {name: a.b}\n",
    want: /expected a DNS label/,
  },
  {
    name: "cluster-scoped",
    text: head("Node", "  namespace: x\n"),
    want: /metadata\.namespace: a Node is in no namespace/,
  },
  {
    name: "port range",
    text: head("Service", "spec:\n  ports:\n  - name: a\n    port: 1\n  - port: 70000\n"),
    want: /f\.yaml:9: spec\.ports\[1\]\.port: expected a whole number from 1 to 65535, got 70000/,
  },
  {
    name: "mode",
    text: head("PeerAuthentication", "spec: {mtls: {mode: STRIKT}}\n", "security.istio.io/v1"),
    want: /spec\.mtls\.mode: expected one of UNSET, DISABLE, PERMISSIVE, STRICT, got "STRIKT"/,
  },
  {
    name: "action",
    text: head("AuthorizationPolicy", "spec: {action: Allow}\n", "security.istio.io/v1beta1"),
    want: /spec\.action/,
  },
  {
    name: "port key",
    text: head(
      "PeerAuthentication",
      "spec: {portLevelMtls: {http: {mode: STRICT}}}\n",
      "security.istio.io/v1",
    ),
    want: /a port number/,
  },
  {
    name: "number where text",
    text: head(
      "AuthorizationPolicy",
      "spec:\n  rules:\n  - to:\n    - operation:\n        ports: [80]\n",
      "security.istio.io/v1",
    ),
    want: /f\.yaml:9: spec\.rules\[0\]\.to\[0\]\.operation\["ports"\]\[0\]: expected text, got 80 \(put it in quotes\)/,
  },
  {
    name: "null in a list",
    text: head("Service", "spec: {ports: [~]}\n"),
    want: /spec\.ports\[0\]: expected a mapping, got null/,
  },
  { name: "bad YAML", text: "# x\n---\na: 1\n  b: [\n", want: /f\.yaml:[34]: / },
  {
    name: "duplicate key",
    text: "apiVersion: v1\nkind: Pod\nkind: Pod\n",
    want: /f\.yaml:3: Map keys must be unique/,
  },
  {
    name: "alias bomb",
    text: `a: &a [${"x,".repeat(50)}]\nb: &b [${"*a,".repeat(50)}]\nc: &c [${"*b,".repeat(50)}]\nd: [${"*c,".repeat(50)}]\n`,
    want: /Excessive alias count/,
  },
];
for (const { name, text, want } of FAULTS)
  test(`fault: ${name}`, () => {
    const { objects, errors } = parseManifest(text, "f.yaml");
    assert.equal(objects.length, 0);
    assert.match(errors[0]?.message ?? "", want);
    assert.equal(errors[0]?.file, "f.yaml");
  });

test("a fault in JSON has its line too", () => {
  const { errors } = parseManifest('{\n  "apiVersion": "v1",\n  "kind" "Pod"\n}', "f.json");
  assert.match(errors[0]?.message ?? "", /^f\.json:3: /);
  assert.equal(errors[0]?.code, "MALFORMED");
});

test("good documents beside a bad one are read, with the right lines for the bad", () => {
  const text = `# a comment\n---\n${head("Pod")}---\n\n---\n${head("Pod", "spec: 1\n")}---\n${head("ConfigMap", "data: {a: |\n    block\n  }\n".replace("{a: |\n    block\n  }", "\n  a: |\n    block"))}`;
  const { objects, errors } = parseManifest(text, "f.yaml");
  assert.deepEqual(
    objects.map((o) => o.kind),
    ["Pod", "ConfigMap"],
  );
  assert.match(errors[0]?.message ?? "", /^f\.yaml:14: spec: expected a mapping, got 1/);
});

test("null members are absent, a missing namespace is default, unknown kinds and fields pass", () => {
  const text = `${head("Pod", "  creationTimestamp: null\n  labels: null\nspec:\n  nodeName: null\n  future: {a: 1}\n")}---\n${head("Widget", "  namespace: n\n", "example.org/v1")}---\nkind: List\napiVersion: v1\nitems:\n- ${head("Node").trimEnd().replaceAll("\n", "\n  ")}\n`;
  const { objects, errors } = parseManifest(text, "f.yaml");
  assert.deepEqual(errors, []);
  assert.deepEqual(objects.map(identityKey), [
    "/Pod|default|x",
    "example.org/Widget|n|x",
    "/Node||x",
  ]);
  assert.deepEqual(objects[0], {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "x", namespace: "default" },
    spec: { future: { a: 1 } },
  });
});

test("any version of a group is the same kind", () => {
  const at = (version: string): string | undefined =>
    parseManifest(head("ServiceEntry", "", `networking.istio.io/${version}`), "f.yaml").objects.map(
      identityKey,
    )[0];
  assert.equal(at("v1beta1"), at("v1"));
});

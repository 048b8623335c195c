// Manifests from files: anything unreadable is reported per document, and the fast reader agrees with the full one.
import assert from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";
import { parseAllDocuments } from "yaml";
import { KubeError } from "#lib/kube/errors.ts";
import { parseManifest, printObject } from "#lib/kube/manifest.ts";
import { parsePlainYaml } from "#lib/kube/plain-yaml.ts";
import type { FuzzTarget } from "../target.ts";
import { utf8 } from "../target.ts";

export const target: FuzzTarget = {
  name: "manifests",
  corpus: utf8(
    "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: default\n  labels:\n    istio.io/dataplane-mode: ambient\n",
    "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: b}\nspec:\n  nodeName: n1\n  serviceAccountName: sa\nstatus:\n  phase: Running\n  podIPs:\n  - ip: 10.0.0.1\n",
    'apiVersion: v1\nkind: Service\nmetadata:\n  name: echo\nspec:\n  clusterIP: 10.96.0.1\n  ports:\n  - name: http\n    port: 80\n    targetPort: 8080\n  selector: {app: "echo"}\n---\napiVersion: v1\nkind: List\nitems: []\n',
    "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: p\nspec:\n  action: DENY\n  rules:\n  - from:\n    - source:\n        principals: [\"cluster.local/ns/a/sa/b\"]\n    to:\n    - operation:\n        ports: ['80']\n",
    '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"},"data":{"a":"b"}}',
    "a: &x [1, 2]\nb: *x\nc: |\n  text\n  more\nd: !!str 5\n",
  ),
  words: [
    "---\n",
    "\n  - ",
    ": ",
    "&a ",
    "*a",
    "<<: ",
    "|\n",
    "!!",
    "{",
    "[",
    '"',
    "'",
    "#",
    "\t",
    "apiVersion: v1\n",
    "kind: Service\n",
    "null",
    "0x1f",
    "1e3",
    "~",
    "__proto__: ",
    "items:\n",
  ],
  // The `yaml` package takes some 5 µs per octet of broken YAML, and a run reads its input several times.
  slowMs: 500,
  refusals: [],
  run(bytes) {
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("utf8");
    const manifest = parseManifest(text, "x.yaml");
    for (const error of manifest.errors) assert.ok(error instanceof KubeError);
    for (const object of manifest.objects) {
      const printed = printObject(JSON.parse(JSON.stringify(object)), "x.yaml");
      const again = parseManifest(printed, "x.yaml");
      assert.equal(again.errors.length, 0);
    }
    const plain = parsePlainYaml(text);
    if (plain !== null) {
      const full = parseAllDocuments(text, { logLevel: "error" });
      const documents = "empty" in full ? [] : full.map((document) => document.toJS() as unknown);
      const present = documents.filter((value) => value !== null && value !== undefined);
      assert.ok(
        isDeepStrictEqual(
          plain.filter((value) => value !== null),
          present,
        ),
        `plain ${JSON.stringify(plain)}, full ${JSON.stringify(documents)}`,
      );
    }
    const codes = [...new Set(manifest.errors.map((error) => error.code))].toSorted();
    return `${Math.min(manifest.objects.length, 3)} objects ${codes.join(" ")}`;
  },
};

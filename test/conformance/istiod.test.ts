// Golden vectors: cluster objects in, mesh tables out, as Istio's istiod made them. Each folder of
// istiod/ holds input.yaml and expected.json; nodes.yaml belongs to every one.
// One difference is on purpose: Istio attaches every selector policy in scope to Pods without labels;
// here a selector policy is attached only where its selector matches.
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import type { KubeObject } from "#lib/kube/cluster.ts";
import { parseManifest } from "#lib/kube/manifest.ts";
import { resourceOf } from "#lib/kube/parse-object.ts";
import { DEFAULT_CONFIG } from "../../istiod/translate/config.ts";
import type { ObjectChange } from "../../istiod/translate/mesh.ts";
import { MeshTranslator } from "../../istiod/translate/translator.ts";
import { renderAddress, renderAuthorization } from "../../istiod/translate/render.ts";

const VECTORS = join(import.meta.dirname, "istiod");

function objectsOf(file: string): KubeObject[] {
  const { objects, errors } = parseManifest(readFileSync(file, "utf8"), file);
  assert.deepEqual(errors, []);
  return [...objects];
}

function added(objects: readonly KubeObject[]): ObjectChange[] {
  return objects.flatMap((object) => {
    const resource = resourceOf(object);
    return resource === null ? [] : [{ resource, type: "added" as const, object }];
  });
}

/** Lists whose order says nothing, put in one order. */
const UNORDERED = new Set(["authorizationPolicies", "ports"]);

function unordered(value: unknown, field = ""): unknown {
  if (Array.isArray(value)) {
    const list = value.map((entry) => unordered(entry));
    const text = (entry: unknown): string => JSON.stringify(entry);
    return UNORDERED.has(field) ? list.sort((a, b) => (text(a) < text(b) ? -1 : 1)) : list;
  }
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, unordered(v, k)]));
}

for (const scenario of readdirSync(VECTORS, { withFileTypes: true })) {
  if (!scenario.isDirectory()) continue;
  test(`golden: ${scenario.name}`, () => {
    const dir = join(VECTORS, scenario.name);
    const objects = [
      ...objectsOf(join(VECTORS, "nodes.yaml")),
      ...objectsOf(join(dir, "input.yaml")),
    ];
    const translator = new MeshTranslator(DEFAULT_CONFIG);
    translator.update(added(objects));
    const expected = JSON.parse(readFileSync(join(dir, "expected.json"), "utf8")) as {
      addresses: Record<string, unknown>;
      authorizations: Record<string, unknown>;
    };
    const addresses = Object.fromEntries(
      [...translator.addresses()].map(([name, r]) => [name, renderAddress(r.bytes)]),
    );
    assert.deepEqual(unordered(addresses), unordered(expected.addresses));
    // The vectors list the scenario's own namespaces; the mesh-wide strict policy is in another.
    const authorizations = Object.fromEntries(
      [...translator.authorizations()]
        .filter(([name]) => name !== "istio-system/istio_converted_static_strict")
        .map(([name, r]) => [name, renderAuthorization(r.bytes)]),
    );
    assert.deepEqual(unordered(authorizations), unordered(expected.authorizations));
    const hasPeers = objects.some((o) => o.kind === "PeerAuthentication");
    assert.equal(
      translator.authorizations().has("istio-system/istio_converted_static_strict"),
      hasPeers,
    );

    // One object at a time, in reverse, comes to the same bytes.
    const piecemeal = new MeshTranslator(DEFAULT_CONFIG);
    for (const change of added(objects).reverse()) piecemeal.update([change]);
    assert.deepEqual(piecemeal.addresses(), translator.addresses());
    assert.deepEqual(piecemeal.authorizations(), translator.authorizations());
  });
}

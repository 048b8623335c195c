// Which version a pod runs: its program's own, what others say of the same image, or the tag.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Pod } from "#lib/kube/objects.ts";
import { imageTag, istiodVersions, ProgramVersions } from "./program-versions.ts";

const { signal } = new AbortController();

function pod(name: string, image: string, imageID?: string): Pod {
  const status = {
    conditions: [{ type: "Ready", status: "True" as const }],
    containerStatuses: imageID === undefined ? [] : [{ name: "c", imageID }],
  };
  const metadata = { name, namespace: "istio-system" };
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata,
    spec: { containers: [{ name: "c", image }] },
    status,
  };
}

test("all pods of an image have the version one of them tells", () => {
  const versions = new ProgramVersions();
  assert.equal(versions.of(pod("cni", "ambit:dev", "sha256:1")), "dev");
  versions.learn(pod("istiod", "ambit:dev", "sha256:1"), "0.1.0");
  assert.equal(versions.of(pod("cni", "ambit:dev", "sha256:1")), "0.1.0");
  assert.equal(versions.of(pod("starts", "ambit:dev")), "0.1.0");
});

test("a tag that moved says nothing of the image it named before; of others the tag is shown", () => {
  const versions = new ProgramVersions();
  versions.learn(pod("istiod", "ambit:dev", "sha256:2"), "0.2.0");
  versions.learn(pod("silent", "ambit:7", "sha256:3"), "unknown");
  assert.equal(versions.of(pod("old", "ambit:dev", "sha256:1")), "dev");
  assert.equal(versions.of(pod("silent", "ambit:7", "sha256:3")), "7");
  assert.equal(imageTag("registry:5000/team/ambit"), "");
  assert.equal(imageTag("registry:5000/team/ambit:1.2"), "1.2");
});

test("every istiod that is ready is asked, and one that fails is left out", async () => {
  const replicas = [pod("new", "ambit:2", "sha256:2"), pod("old", "ambit:1", "sha256:1")];
  const pages = {
    istiods: async () => [...replicas, { ...pod("not-ready", "ambit:3"), status: {} }],
    istiod: async (path: string, _: AbortSignal, asked?: Pod) => {
      assert.equal(path, "/version");
      if (asked?.metadata.name !== "new") throw new Error("no connection");
      return JSON.stringify({ component: "istiod", version: "0.2.0" });
    },
  };
  const versions = await istiodVersions(pages, signal);
  const [fresh, old] = replicas;
  assert.ok(fresh !== undefined && old !== undefined);
  assert.deepEqual([versions.of(fresh), versions.of(old)], ["0.2.0", "1"]);
});

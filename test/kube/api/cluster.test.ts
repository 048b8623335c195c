// The API-server backend of lib/kube against a real API server: reads, writes, watches, and everything
// that goes wrong with them.
import assert from "node:assert/strict";
import { createPrivateKey } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { decodeJwt, decodeProtectedHeader, SignJWT } from "jose";
import { ApiServerCluster } from "#lib/kube/api-server/api-server-cluster.ts";
import type { ApiServer } from "#lib/kube/api-server/api-server.ts";
import { selfSubjectAccess } from "#lib/kube/api-server/access-review.ts";
import { findResource, listResources } from "#lib/kube/api-server/discovery.ts";
import { openApiServer } from "#lib/kube/api-server/open-api-server.ts";
import { reviewToken } from "#lib/kube/api-server/token-review.ts";
import { KubeError, type KubeErrorCode } from "#lib/kube/errors.ts";
import { type ConfigMap, RESOURCES } from "#lib/kube/objects.ts";
import { createLogger } from "#lib/obs/log.ts";
import { ControlPlane } from "../control-plane.ts";

const log = createLogger({ scope: "test", level: "silent", format: "json" });
const ours = { fieldManager: "ambit-test" };
let plane: ControlPlane;
let api: ApiServer;
let cluster: ApiServerCluster;

before(async () => {
  plane = await ControlPlane.start();
  api = await openApiServer({ kubeconfig: plane.kubeconfig });
  cluster = new ApiServerCluster(api, { log });
});
after(async () => {
  api[Symbol.dispose]();
  await plane[Symbol.asyncDispose]();
});

function configMap(name: string, data: Record<string, string>): ConfigMap {
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name, namespace: "default" },
    data,
  };
}

function refused(code: KubeErrorCode, message: RegExp) {
  return (error: unknown): boolean => {
    assert.ok(error instanceof KubeError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    return true;
  };
}

test("objects are created once, read, patched and deleted", async () => {
  const made = await cluster.create(RESOURCES.configMaps, configMap("one", { a: "1" }), ours);
  assert.ok(made.metadata.uid);
  assert.equal("managedFields" in made.metadata, false);
  await assert.rejects(
    cluster.create(RESOURCES.configMaps, configMap("one", {}), ours),
    refused("ALREADY_EXISTS", /create ConfigMap default\/one.*already exists/),
  );
  const patched = await cluster.patch(
    RESOURCES.configMaps,
    "default",
    "one",
    { data: { a: null, b: "2" } },
    ours,
  );
  assert.deepEqual(patched.data, { b: "2" });
  await assert.rejects(
    cluster.patch(
      RESOURCES.configMaps,
      "default",
      "one",
      { metadata: { resourceVersion: made.metadata.resourceVersion }, data: { c: "3" } },
      ours,
    ),
    refused("CONFLICT", /patch ConfigMap default\/one/),
  );
  assert.deepEqual(
    (await cluster.get(RESOURCES.configMaps, "default", "one"))?.metadata.uid,
    made.metadata.uid,
  );
  await assert.rejects(
    cluster.delete(RESOURCES.configMaps, "default", "one", { uid: "another" }),
    refused("CONFLICT", /delete ConfigMap default\/one/),
  );
  await cluster.delete(RESOURCES.configMaps, "default", "one", { uid: made.metadata.uid ?? "" });
  await cluster.delete(RESOURCES.configMaps, "default", "one");
  assert.equal(await cluster.get(RESOURCES.configMaps, "default", "one"), null);
  await assert.rejects(
    cluster.patch(RESOURCES.configMaps, "default", "one", { data: {} }, ours),
    refused("NOT_FOUND", /patch ConfigMap default\/one/),
  );
});

test("an apply takes over what others own and removes what it no longer gives", async () => {
  await cluster.apply(RESOURCES.configMaps, configMap("ssa", { a: "1", b: "1" }), ours);
  await cluster.patch(
    RESOURCES.configMaps,
    "default",
    "ssa",
    { data: { a: "theirs", c: "theirs" } },
    { fieldManager: "somebody" },
  );
  const again = await cluster.apply(RESOURCES.configMaps, configMap("ssa", { a: "2" }), ours);
  assert.deepEqual(again.data, { a: "2", c: "theirs" });
  const dry = await cluster.apply(RESOURCES.configMaps, configMap("dry", { a: "1" }), {
    ...ours,
    dryRun: true,
  });
  assert.equal(dry.metadata.name, "dry");
  assert.equal(await cluster.get(RESOURCES.configMaps, "default", "dry"), null);
});

test("a status is written beside the object, and what is wrong is named by its field", async () => {
  const service = {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "web", namespace: "default" },
    spec: { ports: [{ port: 80 }], selector: { app: "web" } },
  };
  await cluster.apply(RESOURCES.services, service, ours);
  const condition = {
    type: "istio.io/WaypointBound",
    status: "True" as const,
    reason: "Bound",
    message: "",
    lastTransitionTime: "2026-01-01T00:00:00Z",
  };
  const written = await cluster.apply(
    RESOURCES.services,
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: service.metadata,
      status: { conditions: [condition] },
    },
    { fieldManager: "ambit-status", subresource: "status" },
  );
  assert.deepEqual(written.status?.conditions, [condition]);
  assert.deepEqual(written.spec?.selector, { app: "web" });
  await assert.rejects(
    cluster.apply(RESOURCES.services, { ...service, spec: { ports: [{ port: 99_999 }] } }, ours),
    (error: unknown) =>
      refused("INVALID", /apply|patch Service default\/web.*65535/)(error) &&
      (error as KubeError).field === "spec.ports[0].port",
  );
});

test("lists follow selectors and come in pages without the caller noticing", async () => {
  const names = Array.from({ length: 620 }, (_, i) => `paged-${i}`);
  for (let i = 0; i < names.length; i += 31)
    await Promise.all(
      names.slice(i, i + 31).map((name) =>
        cluster.create(
          RESOURCES.configMaps,
          {
            apiVersion: "v1",
            kind: "ConfigMap",
            metadata: { name, namespace: "default", labels: { set: "paged" } },
          },
          ours,
        ),
      ),
    );
  const listed = await cluster.list(RESOURCES.configMaps, { labelSelector: "set=paged" });
  assert.equal(listed.length, names.length);
  assert.equal(listed[0]?.kind, "ConfigMap");
  const [one] = await cluster.list(RESOURCES.configMaps, {
    namespace: "default",
    fieldSelector: "metadata.name=paged-7",
  });
  assert.equal(one?.metadata.name, "paged-7");
});

test("what is forbidden is told with the permission that is missing", async () => {
  const kubeconfig = await plane.userKubeconfig({ user: "jane" });
  using hers = await openApiServer({ kubeconfig });
  const theirs = new ApiServerCluster(hers, { log });
  await assert.rejects(
    theirs.list(RESOURCES.secrets),
    refused("FORBIDDEN", /list Secret: .*needs a ClusterRole with verb list, resource secrets/),
  );
  await assert.rejects(
    theirs.apply(RESOURCES.deployments, { ...configMap("x", {}), kind: "Deployment" }, ours),
    refused(
      "FORBIDDEN",
      /Role in namespace default with verb patch, resource deployments, API group apps/,
    ),
  );
  const secrets = { verb: "list", group: "", resource: "secrets" };
  assert.equal((await selfSubjectAccess(hers, secrets)).allowed, false);
  assert.equal((await selfSubjectAccess(api, secrets)).allowed, true);
  using impersonating = await openApiServer({
    kubeconfig: plane.kubeconfig,
    impersonate: { user: "jane", groups: ["system:masters"] },
  });
  assert.equal((await selfSubjectAccess(impersonating, secrets)).allowed, true);
});

test("a token counts only for its audience and while it lasts", async () => {
  const account = { namespace: "default", name: "web" };
  const good = await plane.serviceAccountToken({ ...account, audiences: ["istio-ca"] });
  const review = await reviewToken(api, good, ["istio-ca"]);
  assert.ok(review.authenticated);
  assert.equal(review.username, "system:serviceaccount:default:web");
  assert.ok(review.groups.includes("system:serviceaccounts:default"));
  const other = await plane.serviceAccountToken({ ...account, audiences: ["vault"] });
  const wrong = await reviewToken(api, other, ["istio-ca"]);
  assert.equal(wrong.authenticated, false);
  assert.match(wrong.authenticated ? "" : wrong.error, /audience/);
  assert.equal((await reviewToken(api, "nonsense", ["istio-ca"])).authenticated, false);
  const expired = await reviewToken(api, await aged(good), ["istio-ca"]);
  assert.match(expired.authenticated ? "" : expired.error, /expired/);
});

/** The same token, signed as one that ran out a minute ago. */
async function aged(token: string): Promise<string> {
  const key = createPrivateKey(readFileSync(plane.serviceAccountKeyFile));
  const now = Math.floor(Date.now() / 1000);
  const claims = { ...decodeJwt(token), iat: now - 700, nbf: now - 700, exp: now - 60 };
  const alg = key.asymmetricKeyType === "ec" ? "ES256" : "RS256";
  return new SignJWT(claims).setProtectedHeader({ ...decodeProtectedHeader(token), alg }).sign(key);
}

test("any kind is found by its name", async () => {
  assert.deepEqual(await findResource(api, "apps/v1", "Deployment"), {
    group: "apps",
    version: "v1",
    kind: "Deployment",
    plural: "deployments",
    namespaced: true,
  });
  assert.equal((await findResource(api, "v1", "Node"))?.namespaced, false);
  assert.equal(await findResource(api, "nothing.example/v1", "Thing"), null);
  assert.ok((await listResources(api)).some((r) => r.plural === "leases"));
  assert.match((await api.version()).gitVersion, /^v1\./);
});

test("a wrong token, a wrong CA and no server are three different errors", async () => {
  const endpoint = (change: object) =>
    JSON.stringify({
      apiVersion: "v1",
      kind: "Config",
      "current-context": "x",
      contexts: [{ name: "x", context: { cluster: "x", user: "x" } }],
      clusters: [
        {
          name: "x",
          cluster: { server: plane.url, "certificate-authority": plane.caFile, ...change },
        },
      ],
      users: [{ name: "x", user: { token: "wrong" } }],
    });
  const file = `${plane.dir}/wrong.kubeconfig`;
  const read = async (change: object): Promise<unknown> => {
    writeFileSync(file, endpoint(change));
    using wrong = await openApiServer({ kubeconfig: file });
    return await new ApiServerCluster(wrong, { log }).list(RESOURCES.pods);
  };
  await assert.rejects(read({}), refused("UNAUTHORIZED", /list Pod.*log in again/));
  await assert.rejects(
    read({ "certificate-authority": undefined }),
    refused("UNAVAILABLE", /no connection to https:.*(SELF_SIGNED|UNABLE_TO)/),
  );
  await assert.rejects(
    read({ server: "https://127.0.0.1:1" }),
    refused("UNAVAILABLE", /ECONNREFUSED/),
  );
});

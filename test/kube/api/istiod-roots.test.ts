// The mesh's root in a cluster: one Secret however many istiods start, and a ConfigMap in every namespace.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { RESOURCES, type Secret } from "#lib/kube/objects.ts";
import { issueCa } from "#lib/pki/issue.ts";
import { parseCertificate } from "#lib/pki/certificate.ts";
import { parsePrivateKey } from "#lib/pki/keys.ts";
import { testCa } from "#lib/pki/test-ca.ts";
import { SecretRootStore } from "../../../istiod/ca/secret-root-store.ts";
import { SelfSignedCa } from "../../../istiod/ca/self-signed.ts";
import { ControlPlane } from "../control-plane.ts";
import { IstiodRun, namespaced, put, SYSTEM, until } from "./istiod-run.ts";

const KEY = "root-cert.pem";

let api: ControlPlane;

before(async () => {
  api = await ControlPlane.start();
  await put(api, namespaced(SYSTEM));
});
after(() => api[Symbol.asyncDispose]());

const secretOf = async (istiod: IstiodRun, name = "istio-ca-secret"): Promise<Secret | null> =>
  await istiod.cluster.get(RESOURCES.secrets, SYSTEM, name);
const text = (secret: Secret | null, key: string): string =>
  Buffer.from(secret?.data?.[key] ?? "", "base64").toString();

test("replicas that start together make one Secret, with Istio's keys, and sign alike", async () => {
  const replicas = await Promise.all(
    ["a", "b", "c"].map((pod) => IstiodRun.start(api, { pod: `istiod-${pod}` })),
  );
  try {
    const [first] = replicas;
    assert.ok(first !== undefined);
    const secret = await secretOf(first);
    assert.equal(secret?.type, "istio.io/ca-root");
    assert.deepEqual(Object.keys(secret?.data ?? {}).sort(), [
      "ca-cert.pem",
      "ca-key.pem",
      "cert-chain.pem",
      "key.pem",
      KEY,
    ]);
    const root = parseCertificate(text(secret, "ca-cert.pem"));
    assert.ok(root.x509.checkPrivateKey(parsePrivateKey(text(secret, "ca-key.pem"))));
    assert.equal(text(secret, KEY), root.pem);
    for (const replica of replicas) {
      const { ca } = (await (await replica.get("/debug/configz")).json()) as {
        ca: { signer: string; source: string };
      };
      assert.deepEqual([ca.source, ca.signer], ["self-signed", root.serial]);
    }
  } finally {
    await Promise.all(replicas.map((replica) => replica[Symbol.asyncDispose]()));
  }
});

test("a root with little life left is renewed once, and the other replica adopts it", async () => {
  await using istiod = await IstiodRun.create(api);
  const before = await secretOf(istiod);
  const key = parsePrivateKey(text(before, "ca-key.pem"));
  const keys = { privateKey: key, publicKey: parseCertificate(text(before, KEY)).x509.publicKey };
  const now = Date.now();
  const old = await issueCa(null, {
    organization: "cluster.local",
    keys,
    notBeforeMs: now - 100_000_000,
    notAfterMs: now + 1_000_000,
  });
  const encoded = Buffer.from(old.pem).toString("base64");
  await istiod.cluster.patch(
    RESOURCES.secrets,
    SYSTEM,
    "istio-ca-secret",
    { data: { "ca-cert.pem": encoded, [KEY]: encoded } },
    { fieldManager: "test" },
  );
  const replica = (): SelfSignedCa =>
    new SelfSignedCa({
      store: new SecretRootStore(istiod.cluster, SYSTEM),
      trustDomain: "cluster.local",
      extraRootPem: "",
      now: Date.now,
    });
  const bundles = await Promise.all([replica().load(), replica().load(), replica().load()]);
  assert.equal(new Set(bundles.map((bundle) => bundle.rootPem)).size, 1);
  const [renewed] = bundles;
  assert.notEqual(renewed?.rootPem, old.pem);
  assert.ok(renewed?.signer.key.equals(key), "leaves issued before keep verifying");
  assert.equal(text(await secretOf(istiod), "ca-cert.pem"), renewed?.rootPem);
});

test("a damaged Secret stops the start and is not replaced", async () => {
  await using istiod = await IstiodRun.create(api);
  const good = await secretOf(istiod);
  const damage = { data: { "ca-cert.pem": Buffer.from("rubbish").toString("base64") } };
  const patch = (body: object): Promise<Secret> =>
    istiod.cluster.patch(RESOURCES.secrets, SYSTEM, "istio-ca-secret", body, {
      fieldManager: "test",
    });
  await patch(damage);
  await assert.rejects(istiod.app.start(), {
    code: "CA_STATE",
    message: /istio-ca-secret: ca-cert\.pem is damaged/,
  });
  await patch({ data: { "ca-cert.pem": good?.data?.["ca-cert.pem"] } });
});

test("every namespace gets the root; edits and deletions are repaired, other keys stay", async () => {
  await put(api, namespaced("shop"));
  await using istiod = await IstiodRun.start(api);
  const rootIn = async (namespace: string): Promise<string | undefined> =>
    (await istiod.configMap(namespace))?.data?.[KEY];
  const root = (await istiod.root()).toString();
  for (const namespace of ["default", "kube-system", "shop", SYSTEM])
    await until(namespace, async () => (await rootIn(namespace)) === root);
  const { metadata } = (await istiod.configMap("shop")) ?? {};
  assert.equal(metadata?.labels?.["istio.io/config"], "true");
  for (const namespace of ["kube-public", "kube-node-lease"])
    assert.equal(await istiod.configMap(namespace), null, namespace);

  await istiod.cluster.patch(
    RESOURCES.configMaps,
    "shop",
    "istio-ca-root-cert",
    { data: { [KEY]: "edited", "mine.txt": "stays" } },
    { fieldManager: "person" },
  );
  await until("the edit is repaired", async () => (await rootIn("shop")) === root);
  assert.equal((await istiod.configMap("shop"))?.data?.["mine.txt"], "stays");
  await istiod.cluster.delete(RESOURCES.configMaps, "default", "istio-ca-root-cert");
  await until("the deletion is repaired", async () => (await rootIn("default")) === root);

  await put(api, namespaced("late"));
  await until("a new namespace", async () => (await rootIn("late")) === root);
  // Nobody runs the namespace controller here: it stays, ending.
  await api.kubectl(["delete", "namespace", "late", "--wait=false"]);
  await istiod.cluster.delete(RESOURCES.configMaps, "late", "istio-ca-root-cert");
  await istiod.cluster.delete(RESOURCES.configMaps, "shop", "istio-ca-root-cert");
  await until("the other one", async () => (await rootIn("shop")) === root);
  assert.equal(await rootIn("late"), undefined, "a namespace that is ending is left alone");
  assert.deepEqual(istiod.lines("root certificate cannot be published"), []);
});

test("a plugged-in CA in Secret cacerts signs, and its root goes to the namespaces", async () => {
  const ca = await testCa(Date.now());
  const key = ca.signer.key.export({ type: "pkcs8", format: "pem" }).toString();
  const { pem } = ca.signer.certificate;
  const files = { "ca-cert.pem": pem, "ca-key.pem": key, "cert-chain.pem": pem, [KEY]: ca.rootPem };
  const secret = (stringData: object): object => ({
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name: "cacerts", namespace: SYSTEM },
    stringData,
  });
  await put(api, secret(files));
  await using istiod = await IstiodRun.start(api);
  const { ca: shown } = (await (await istiod.get("/debug/configz")).json()) as {
    ca: { signer: string; source: string };
  };
  assert.deepEqual(
    [shown.source, shown.signer],
    ["plugged-in-secret", ca.signer.certificate.serial],
  );
  await until("the root", async () => (await istiod.configMap("shop"))?.data?.[KEY] === ca.rootPem);
  await put(api, secret({ ...files, "ca-key.pem": "rubbish" }));
  await until("the fault is named", () => istiod.lines("new CA refused").length > 0);
  assert.match(String(istiod.lines("new CA refused")[0]?.["error"]), /cacerts, ca-key\.pem/);
  await api.kubectl(["delete", "secret", "cacerts", "-n", SYSTEM]);
});

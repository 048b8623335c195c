// istiod whole, over a directory of manifests: clients connect, get certificates, and talk to each other.
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { get as httpGet, type IncomingMessage } from "node:http";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { connect as tlsConnect, createServer as tlsServer, type TLSSocket } from "node:tls";
import type { AddressInfo } from "node:net";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { systemClock } from "#lib/base/clock.ts";
import { CaClient } from "#lib/grpc/ca-client.ts";
import { DirectoryCluster } from "#lib/kube/directory-cluster.ts";
import { parseSpiffeId } from "#lib/net/spiffe.ts";
import { createLogger } from "#lib/obs/log.ts";
import { parseCertificate } from "#lib/pki/certificate.ts";
import { createCsr } from "#lib/pki/csr.ts";
import { issueCa } from "#lib/pki/issue.ts";
import { generateEcKey } from "#lib/pki/keys.ts";
import { testCa } from "#lib/pki/test-ca.ts";
import { DeltaClient, type DeltaUpdate } from "#lib/xds/delta-client.ts";
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from "#lib/xds/type-urls.ts";
import { App } from "./app.ts";
import { directoryBackend } from "./backend.ts";
import { readConfig } from "./config.ts";

const TIMEOUT = { timeout: 30_000 };
const log = createLogger({ scope: "test", level: "silent", format: "json" });
const CART = parseSpiffeId("spiffe://cluster.local/ns/shop/sa/cart");

const pod = (namespace: string, name: string, account: string, node: string, ip: string): string =>
  JSON.stringify({
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name,
      namespace,
      uid: `uid-of-${name}`,
      annotations: { "ambient.istio.io/redirection": "enabled" },
    },
    spec: { serviceAccountName: account, nodeName: node, containers: [{ name: "c" }] },
    status: {
      phase: "Running",
      podIP: ip,
      podIPs: [{ ip }],
      conditions: [{ type: "Ready", status: "True" }],
    },
  });

/** A directory with a small cluster, a token issuer, and the settings to run istiod on both. */
async function world(t: TestContext) {
  const dir = mkdtempSync(join(tmpdir(), "istiod-"));
  t.after(() => rmSync(dir, { recursive: true }));
  const manifests = join(dir, "manifests");
  mkdirSync(manifests);
  const put = (file: string, text: string): void => writeFileSync(join(manifests, file), text);
  put("z.json", pod("istio-system", "ztunnel-x", "ztunnel", "worker-1", "10.244.1.2"));
  put("cart.json", pod("shop", "cart-1", "cart", "worker-1", "10.244.1.7"));
  const { publicKey, privateKey } = await generateKeyPair("ES256");
  const jwks = join(dir, "jwks.json");
  writeFileSync(jwks, JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: "k" }] }));
  const token = (namespace = "istio-system", account = "ztunnel", podName = "ztunnel-x") =>
    new SignJWT({
      "kubernetes.io": { namespace, pod: { name: podName, uid: `uid-of-${podName}` } },
    })
      .setProtectedHeader({ alg: "ES256", kid: "k" })
      .setAudience("istio-ca")
      .setSubject(`system:serviceaccount:${namespace}:${account}`)
      .setExpirationTime("1h")
      .sign(privateKey);
  const env = {
    MANIFEST_DIR: manifests,
    JWKS_FILE: jwks,
    ISTIOD_ADDR: "127.0.0.1:0",
    MONITORING_ADDR: "127.0.0.1:0",
    ROOT_CA_DIR: join(dir, "cacerts"),
    CA_STATE_DIR: join(dir, "state"),
    ROOT_CERT_FILE: join(dir, "run", "root-cert.pem"),
    CA_TRUSTED_NODE_ACCOUNTS: "istio-system/ztunnel",
  };
  return { dir, put, remove: (file: string) => rmSync(join(manifests, file)), token, env, jwks };
}

async function running(t: TestContext, extraEnv: Record<string, string> = {}) {
  const w = await world(t);
  const config = readConfig({ ...w.env, ...extraEnv });
  const app = new App({
    config,
    backend: directoryBackend(config, new DirectoryCluster(config.manifestDir ?? ""), log),
    log,
    version: "t",
  });
  t.after(() => app[Symbol.asyncDispose]());
  await app.start();
  const rootCert = async () => readFileSync(w.env.ROOT_CERT_FILE);
  const common = {
    address: `https://127.0.0.1:${app.port}`,
    altHostname: "istiod.istio-system.svc",
    rootCert,
    clusterId: "Kubernetes",
  };
  const caClient = (token: () => Promise<string | null> = () => w.token()): CaClient => {
    const client = new CaClient({ ...common, token });
    t.after(() => client[Symbol.dispose]());
    return client;
  };
  const get = (path: string, headers: Record<string, string> = {}): Promise<Response> =>
    fetch(`http://127.0.0.1:${app.monitoringPort}${path}`, { headers });
  return { ...w, app, common, caClient, get };
}

test(
  "a node proxy gets a pod's certificate, and two of them make an mTLS connection",
  TIMEOUT,
  async (t) => {
    const { caClient, dir } = await running(t);
    using client = caClient();
    const { csrPem, privateKeyPem } = await createCsr(CART);
    const chain = await client.createCertificate({ csrPem, ttlSeconds: 3600, impersonate: CART });
    assert.equal(chain.length, 2);
    const [leafPem = "", rootPem = ""] = chain;
    const leaf = parseCertificate(leafPem);
    assert.deepEqual(leaf.uriSans, [CART]);
    writeFileSync(join(dir, "leaf.pem"), leafPem);
    writeFileSync(join(dir, "root.pem"), rootPem);
    const files = ["-CAfile", join(dir, "root.pem"), join(dir, "leaf.pem")];
    const verified = execFileSync("openssl", ["verify", "-x509_strict", ...files]);
    assert.match(verified.toString(), /OK/);

    const identity = { cert: leafPem, key: privateKeyPem, ca: rootPem };
    const server = tlsServer({ ...identity, requestCert: true, minVersion: "TLSv1.3" });
    t.after(() => server.close());
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const accepted = once(server, "secureConnection") as Promise<[TLSSocket]>;
    const { port } = server.address() as AddressInfo;
    const socket = tlsConnect({
      port,
      host: "127.0.0.1",
      ...identity,
      checkServerIdentity: () => undefined,
    });
    t.after(() => socket.destroy());
    await once(socket, "secureConnect");
    const [peer] = await accepted;
    assert.ok(peer.authorized && socket.authorized);
    assert.equal(peer.getPeerCertificate().subjectaltname, `URI:${CART}`);
  },
);

test("a workload gets its own certificate, whatever its request asks for", TIMEOUT, async (t) => {
  const { caClient, token } = await running(t);
  using client = caClient(() => token("shop", "cart", "cart-1"));
  const { csrPem } = await createCsr(
    parseSpiffeId("spiffe://cluster.local/ns/kube-system/sa/admin"),
  );
  const [leaf = ""] = await client.createCertificate({ csrPem, ttlSeconds: 0 });
  assert.deepEqual(parseCertificate(leaf).uriSans, [CART]);
});

test("refusals have the statuses and texts of the contract", TIMEOUT, async (t) => {
  const { caClient, token, common } = await running(t);
  const { csrPem } = await createCsr(CART);
  const order = { csrPem, ttlSeconds: 3600, impersonate: CART as string };
  const ask = (client: CaClient, change: Partial<typeof order> = {}) =>
    client.createCertificate({ ...order, ...change });
  const impersonation = {
    code: "UNAUTHENTICATED",
    details: "request impersonation authentication failure",
  };
  const authentication = { code: "UNAUTHENTICATED", details: "request authenticate failure" };
  const signing = { code: "INVALID_ARGUMENT", details: /^CSR signing error \(.*\)$/ };
  await assert.rejects(ask(caClient(async () => null)), authentication);
  await assert.rejects(ask(caClient(async () => "x.y.z")), authentication);
  await assert.rejects(ask(caClient(() => token("shop", "cart", "cart-1"))), impersonation);
  const other = new CaClient({ ...common, clusterId: "west", token: () => token() });
  await assert.rejects(ask(other), authentication);
  other[Symbol.dispose]();
  const client = caClient();
  const ghost = "spiffe://cluster.local/ns/shop/sa/ghost";
  await assert.rejects(ask(client, { impersonate: ghost }), impersonation);
  await assert.rejects(ask(client, { csrPem: "nonsense" }), signing);
  await assert.rejects(ask(client, { ttlSeconds: 91 * 86_400 }), signing);
  assert.equal((await ask(client)).length, 2, "and a good request still works");
});

test(
  "a new pod can be certified once the cluster shows it, and no more when it is gone",
  TIMEOUT,
  async (t) => {
    const { caClient, put, remove } = await running(t);
    using client = caClient();
    const identity = "spiffe://cluster.local/ns/shop/sa/late";
    const { csrPem } = await createCsr(parseSpiffeId(identity));
    const ask = async (): Promise<boolean> =>
      client.createCertificate({ csrPem, ttlSeconds: 0, impersonate: identity }).then(
        () => true,
        () => false,
      );
    assert.equal(await ask(), false);
    put("late.json", pod("shop", "late-1", "late", "worker-1", "10.244.1.9"));
    while (!(await ask())) await new Promise(setImmediate);
    remove("late.json");
    while (await ask()) await new Promise(setImmediate);
  },
);

test("a client receives the tables and every change of them", TIMEOUT, async (t) => {
  const { common, token, put, remove, get } = await running(t);
  const held = new Map<string, Uint8Array>();
  let wake = Promise.withResolvers<void>();
  const apply = (update: DeltaUpdate): [] => {
    for (const { name, bytes } of update.resources) held.set(name, bytes);
    for (const name of update.removed) held.delete(name);
    wake.resolve();
    wake = Promise.withResolvers();
    return [];
  };
  const until = async (condition: () => boolean): Promise<void> => {
    while (!condition()) await wake.promise;
  };
  const stop = new AbortController();
  const client = new DeltaClient({
    ...common,
    token: () => token(),
    node: {
      id: "ztunnel~10.244.1.2~ztunnel-x.istio-system~istio-system.svc.cluster.local",
      metadata: { NAMESPACE: "istio-system", NODE_NAME: "worker-1" },
    },
    types: [ADDRESS_TYPE, AUTHORIZATION_TYPE].map((typeUrl) => ({ typeUrl, apply })),
    log,
    clock: systemClock,
  });
  const run = client.run(stop.signal);
  await until(() => held.has("Kubernetes//Pod/shop/cart-1"));
  put("pay.json", pod("shop", "pay-1", "pay", "worker-2", "10.244.2.3"));
  await until(() => held.has("Kubernetes//Pod/shop/pay-1"));
  put(
    "policy.json",
    JSON.stringify({
      apiVersion: "security.istio.io/v1",
      kind: "AuthorizationPolicy",
      metadata: { name: "deny", namespace: "shop" },
      spec: { action: "DENY", rules: [{ from: [{ source: { namespaces: ["x"] } }] }] },
    }),
  );
  await until(() => held.has("shop/deny"));
  remove("cart.json");
  await until(() => !held.has("Kubernetes//Pod/shop/cart-1"));
  const adsz = (await (await get("/debug/adsz")).json()) as { totalClients: number };
  assert.equal(adsz.totalClients, 1);
  stop.abort();
  await run;
});

test(
  "the monitoring port answers openly what is no secret, and the rest only to this machine",
  TIMEOUT,
  async (t) => {
    const { get, app } = await running(t);
    assert.equal((await get("/ready")).status, 200);
    assert.match(
      await (await get("/metrics")).text(),
      /citadel_server_root_cert_expiry_seconds \d/,
    );
    assert.deepEqual(await (await get("/version")).json(), { component: "istiod", version: "t" });
    const ambient = (await (await get("/debug/ambientz")).json()) as {
      workloads: { uid: string; addresses: string[] }[];
    };
    const cart = ambient.workloads.find((w) => w.uid === "Kubernetes//Pod/shop/cart-1");
    assert.deepEqual(cart?.addresses, ["10.244.1.7"]);
    const config = (await (await get("/debug/configz")).json()) as { ca: { source: string } };
    assert.equal(config.ca.source, "self-signed");
    assert.deepEqual(await (await get("/debug/syncz")).json(), []);
    assert.equal((await get("/debug/nothing")).status, 404);
    assert.equal(
      (await fetch(`http://127.0.0.1:${app.monitoringPort}/ready`, { method: "POST" })).status,
      405,
    );
    // fetch sets Host itself; a page that rebinds its name would send that name.
    const rebound = httpGet({
      port: app.monitoringPort,
      path: "/debug/ambientz",
      headers: { host: "evil.example" },
    });
    const [answer] = (await once(rebound, "response")) as [IncomingMessage];
    assert.equal(answer.statusCode, 401);
    answer.resume();
  },
);

test(
  "a plugged-in CA signs, and a new intermediate takes over while istiod runs",
  TIMEOUT,
  async (t) => {
    const now = Date.now();
    const root = await testCa(now, "root");
    const cacerts = mkdtempSync(join(tmpdir(), "cacerts-"));
    t.after(() => rmSync(cacerts, { recursive: true }));
    const plug = async (name: string): Promise<string> => {
      const keys = await generateEcKey();
      const notAfterMs = now + 3_600_000;
      const options = { organization: name, keys, notBeforeMs: now - 1000, notAfterMs };
      const { pem } = await issueCa(root.signer, options);
      const key = keys.privateKey.export({ type: "pkcs8", format: "pem" }).toString();
      writeFileSync(join(cacerts, "ca-cert.pem"), pem);
      writeFileSync(join(cacerts, "cert-chain.pem"), pem);
      writeFileSync(join(cacerts, "ca-key.pem"), key);
      writeFileSync(join(cacerts, "root-cert.pem"), root.rootPem);
      return pem;
    };
    const first = await plug("first");
    const { caClient } = await running(t, { ROOT_CA_DIR: cacerts });
    const { csrPem } = await createCsr(CART);
    const issuer = async (): Promise<string | undefined> => {
      using client = caClient(); // a new connection: it sees the new serving certificate
      const chain = await client.createCertificate({ csrPem, ttlSeconds: 0, impersonate: CART });
      assert.equal(chain.length, 3);
      assert.equal(chain[2], root.rootPem);
      return chain[1];
    };
    assert.equal(await issuer(), first);
    const second = await plug("second");
    while ((await issuer()) !== second) await new Promise(setImmediate);
  },
);

test(
  "the mesh configuration is followed: tables, certificates and our own name change while running",
  TIMEOUT,
  async (t) => {
    const dir = mkdtempSync(join(tmpdir(), "mesh-"));
    t.after(() => rmSync(dir, { recursive: true }));
    const file = join(dir, "mesh.yaml");
    writeFileSync(file, "trustDomain: cluster.local\n");
    const { caClient, common, get, token } = await running(t, { MESH_CONFIG: file });
    const ambient = async () =>
      (await (await get("/debug/ambientz")).json()) as { workloads: { trustDomain: string }[] };
    assert.equal((await ambient()).workloads[0]?.trustDomain, "");
    writeFileSync(
      file,
      "trustDomain: example.org\ndefaultConfig: {discoveryAddress: 'mesh.example:15012'}\n",
    );
    while ((await ambient()).workloads[0]?.trustDomain !== "example.org") await sleep(5);
    const other = parseSpiffeId("spiffe://example.org/ns/shop/sa/cart");
    const { csrPem } = await createCsr(other);
    using client = caClient();
    const [leaf = ""] = await client.createCertificate({
      csrPem,
      ttlSeconds: 0,
      impersonate: other,
    });
    assert.deepEqual(parseCertificate(leaf).uriSans, [other]);
    using named = new CaClient({ ...common, altHostname: "mesh.example", token: () => token() });
    assert.equal(
      (await named.createCertificate({ csrPem, ttlSeconds: 0, impersonate: other })).length,
      2,
    );
    const config = async () =>
      (
        (await (await get("/debug/configz")).json()) as {
          config: { mesh: { trustDomain: string } };
        }
      ).config.mesh;
    writeFileSync(file, "trustDomain: [example.org]\n");
    await sleep(250);
    assert.equal((await config()).trustDomain, "example.org");
    assert.equal((await get("/ready")).status, 200);
  },
);

test("a start that cannot succeed says why", TIMEOUT, async (t) => {
  const w = await world(t);
  mkdirSync(w.env.ROOT_CA_DIR);
  writeFileSync(join(w.env.ROOT_CA_DIR, "ca-cert.pem"), "x");
  const config = readConfig(w.env);
  const app = new App({
    config,
    backend: directoryBackend(config, new DirectoryCluster(config.manifestDir ?? ""), log),
    log,
    version: "t",
  });
  await assert.rejects(app.start(), { code: "CA_FILES_INVALID", message: /lacks ca-key\.pem/ });
  await app[Symbol.asyncDispose]();
});

test("the program starts, keeps its secrets private, and stops on SIGTERM", TIMEOUT, async (t) => {
  const w = await world(t);
  const main = spawn(process.execPath, [join(import.meta.dirname, "main.ts")], {
    env: { ...process.env, ...w.env, LOG_FORMAT: "json" },
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => main.kill("SIGKILL"));
  let text = "";
  for await (const chunk of main.stdout) {
    text += String(chunk);
    if (text.includes("serving xds")) break;
  }
  assert.equal(statSync(join(w.env.CA_STATE_DIR, "istio-ca-secret.pem")).mode & 0o777, 0o600);
  main.kill("SIGTERM");
  const [code] = (await once(main, "exit")) as [number];
  assert.equal(code, 0);
});

test("wrong settings end the program with every mistake named", TIMEOUT, async () => {
  const main = spawn(process.execPath, [join(import.meta.dirname, "main.ts")], {
    env: { LOG_LEVEL: "loud", MANIFEST_DIR: "/m", ISTIOD_ADDR: "nowhere" },
    stdio: ["ignore", "ignore", "pipe"],
  });
  const exit = once(main, "exit") as Promise<[number]>;
  const text = (await main.stderr.toArray()).join("");
  assert.equal((await exit)[0], 2);
  assert.match(text, /ISTIOD_ADDR.*JWKS_FILE.*LOG_LEVEL/s);
});

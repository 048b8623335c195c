// What somebody with a foot in the cluster can get out of the mesh: by tokens that are not for it, from ports that ask
// for none, and from logs.
import assert from "node:assert/strict";
import { createPrivateKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { decodeJwt, importPKCS8, SignJWT } from "jose";
import { systemClock } from "#lib/base/clock.ts";
import { CaClient } from "#lib/grpc/ca-client.ts";
import { parseSpiffeId } from "#lib/net/spiffe.ts";
import { createLogger } from "#lib/obs/log.ts";
import { parseCertificate } from "#lib/pki/certificate.ts";
import { createCsr } from "#lib/pki/csr.ts";
import { DeltaClient } from "#lib/xds/delta-client.ts";
import type { KubeCluster } from "../kube-cluster.ts";
import { kubeSandbox } from "../kube-sandbox.ts";
import { ask, idlePod, rolledOut, service, serviceAccount, workloadPod } from "../mesh.ts";
import { podsOf, startMesh, type RunningPod } from "./installed-mesh.ts";

const needs = await kubeSandbox();
const SYSTEM = "istio-system";
const NODE = "/opt/ambit/bin/node";
const TOKEN_FILE = "/var/run/secrets/tokens/istio-token";
const ADDRESS_TYPE = "type.googleapis.com/istio.workload.Address";
const WEB = "spiffe://cluster.local/ns/shop/sa/web";
const CLIENT = "spiffe://cluster.local/ns/shop/sa/client";
const NOBODY = "UNAUTHENTICATED request authenticate failure";
const NOT_FOR_YOU = "UNAUTHENTICATED request impersonation authentication failure";
let cluster: KubeCluster;
let root: Buffer;
/** Of the ztunnel next to the client, as it lies there. */
let token: string;

before(async () => {
  if (needs.skip !== undefined) return;
  cluster = await startMesh();
  // as talkative as they get
  const set = (part: string, setting: string): Promise<unknown> =>
    cluster.kubectl(["set", "env", "-n", SYSTEM, part, setting]);
  await Promise.all([
    set("deployment/istiod", "LOG_LEVEL=debug"),
    set("daemonset/istio-cni-node", "LOG_LEVEL=debug"),
    set("daemonset/ztunnel", "RUST_LOG=trace"),
  ]);
  await rolledOut(cluster);
  const labels = { "istio.io/dataplane-mode": "ambient" };
  await cluster.apply(
    { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop", labels } },
    { apiVersion: "v1", kind: "Namespace", metadata: { name: "street" } },
  );
  await cluster.apply(
    ...["web", "client"].map((name) => serviceAccount("shop", name)),
    serviceAccount("street", "stranger"),
    service("shop", "web"),
    workloadPod({ name: "web", namespace: "shop", node: "node-b" }),
    idlePod({ name: "client", namespace: "shop", node: "node-a" }),
    idlePod({ name: "stranger", namespace: "street", node: "node-a" }),
    waypoint("keeper"),
  );
  await cluster.waitFor("condition=Ready", "shop", "pod/web", "pod/client");
  await cluster.waitFor("condition=Ready", "street", "pod/stranger");
  await cluster.waitFor("condition=Programmed", "shop", "gateway/keeper");
  const host = "web.shop.svc.cluster.local";
  const reply = await ask(cluster, { namespace: "shop", name: "client" }, host, 80, "hello");
  assert.ok(reply.isAnswer, reply.text);
  const { stdout } = await cluster.kubectl([
    ...["get", "configmap", "istio-ca-root-cert", "-n", "shop"],
    ...["-o", "jsonpath={.data.root-cert\\.pem}"],
  ]);
  root = Buffer.from(stdout);
  token = await fileIn(await ztunnelOn("node-a"), TOKEN_FILE);
});
after(() => cluster?.[Symbol.asyncDispose]());

test("a real ztunnel's token gets identities of its node, and of no other", needs, async () => {
  assert.equal(await certify(token, CLIENT), CLIENT);
  assert.equal(await certify(token, WEB), NOT_FOR_YOU);
  assert.match(await lastLogged("identity refused"), /sa\/web".*identity-not-on-node/);
  const other = await fileIn(await ztunnelOn("node-b"), TOKEN_FILE);
  assert.equal(await certify(other, WEB), WEB);
  assert.equal(await certify(other, CLIENT), NOT_FOR_YOU);
  // an identity that runs nowhere
  assert.equal(await certify(token, "spiffe://cluster.local/ns/shop/sa/boss"), NOT_FOR_YOU);
});

test("a token of another audience, or one that has ended, is refused", needs, async () => {
  const { name } = await ztunnelOn("node-a");
  const account = { namespace: SYSTEM, name: "ztunnel", pod: name };
  const audiences = ["https://kubernetes.default.svc"];
  const elsewhere = await cluster.api.serviceAccountToken({ ...account, audiences });
  const seconds = Math.floor(Date.now() / 1000);
  const times = { iat: seconds - 7200, nbf: seconds - 7200, exp: seconds - 60 };
  const ended = await signed({ ...decodeJwt(token), ...times });
  for (const [bad, reason] of [
    [elsewhere, /wrong-audience/],
    [ended, /expired/],
  ] as const) {
    assert.equal(await certify(bad, CLIENT), NOBODY);
    assert.match(await lastLogged("authentication failed"), reason);
    assert.equal(await resourcesFor(bad), 0);
    assert.match(await lastLogged("authentication failed"), reason);
  }
  assert.ok((await resourcesFor(token)) > 0);
});

test(
  "ports that ask for no credentials tell of health, version and metrics only",
  needs,
  async () => {
    const shop = await podsOf(cluster, "shop");
    const pods = [...(await podsOf(cluster, SYSTEM)), ...shop].filter((pod) => !pod.ending);
    const targets = await Promise.all(
      pods.map(async (pod) => ({ pod: pod.name, ip: pod.ips[0], ports: await openPorts(pod) })),
    );
    const argv = ["node", "-e", KNOCK, JSON.stringify(targets), JSON.stringify(PATHS)];
    const { stdout, stderr, code } = await cluster.exec("street", "stranger", argv);
    assert.equal(code, 0, stderr);
    const heard = JSON.parse(stdout) as readonly Heard[];
    const told = heard
      .filter((h) => h.status < 300)
      .map(({ pod, port, path }) => `${kindOf(pod)} ${port} ${path}`);
    console.log(
      `${heard.length} questions to ${targets.flatMap((t) => t.ports).length} ports: ${told.length} answered`,
    );
    assert.deepEqual([...new Set(told)].toSorted(), ALLOWED);
    // and a refusal tells nothing
    for (const { status, body } of heard)
      if (status >= 300) assert.doesNotMatch(body, /spiffe:|BEGIN |10\.244\.|stranger/);
  },
);

test("no key and no token is in any log, nor in what an operator is shown", needs, async () => {
  const secret = ["get", "secret", "istio-ca-secret", "-n", SYSTEM, "-o"];
  const path = "jsonpath={.data.ca-key\\.pem}";
  const encoded = (await cluster.kubectl([...secret, path])).stdout;
  const key = Buffer.from(encoded, "base64").toString();
  assert.match(key, /PRIVATE KEY/);
  const parts = key.split("\n").filter((line) => /^[\w+/=]{20,}$/.test(line));
  const system = await podsOf(cluster, SYSTEM);
  const keeper = (await podsOf(cluster, "shop")).filter((pod) => kindOf(pod.name) === "waypoint");
  const shown: string[] = [];
  for (const [namespace, pods] of [
    [SYSTEM, system],
    ["shop", keeper],
  ] as const)
    for (const pod of pods) {
      const { stdout } = await cluster.kubectl(["logs", "-n", namespace, pod.name, "--tail=-1"]);
      assert.ok(stdout.length > 0, `${pod.name} logged nothing`);
      shown.push(stdout);
      const held = await tokensIn(namespace, pod.name);
      parts.push(...held.map((t) => t.split(".")[2] ?? ""));
      if (/ztunnel|keeper/.test(pod.name)) shown.push(await configDump(namespace, pod.name));
    }
  assert.ok(parts.length > 10 && parts.every((part) => part.length >= 20));
  const everything = shown.join("\n");
  for (const part of parts) assert.ok(!everything.includes(part));
  assert.doesNotMatch(everything, /PRIVATE KEY/);
  assert.doesNotMatch(everything, /eyJ[\w-]{16,}\.[\w-]{16,}\./);
});

function waypoint(name: string): object {
  const listeners = [{ name: "mesh", port: 15_008, protocol: "HBONE" }];
  return {
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "Gateway",
    metadata: { name, namespace: "shop" },
    spec: { gatewayClassName: "istio-waypoint", listeners },
  };
}

async function istiod() {
  const [pod] = (await podsOf(cluster, SYSTEM, "app=istiod")).filter((p) => !p.ending);
  return {
    address: `https://${pod?.ips[0]}:15012`,
    altHostname: "istiod.istio-system.svc",
    rootCert: async () => root,
    clusterId: "Kubernetes",
  };
}

/** @returns the URI of the certificate, or why there is none */
async function certify(bearer: string, impersonate: string): Promise<string> {
  using client = new CaClient({ ...(await istiod()), token: async () => bearer });
  const { csrPem } = await createCsr(parseSpiffeId(CLIENT));
  try {
    const chain = await client.createCertificate({ csrPem, ttlSeconds: 3600, impersonate });
    return parseCertificate(chain[0] ?? "").uriSans[0] ?? "";
  } catch (error) {
    return `${(error as { code: string }).code} ${(error as { details: string }).details}`;
  }
}

/** How many resources a stream with this token brings before it ends, or has brought some. */
async function resourcesFor(bearer: string): Promise<number> {
  const stop = new AbortController();
  let count = 0;
  const client = new DeltaClient({
    ...(await istiod()),
    token: async () => bearer,
    node: {
      id: `ztunnel~10.0.0.1~ztunnel-x.${SYSTEM}~${SYSTEM}.svc.cluster.local`,
      metadata: { NAMESPACE: SYSTEM, NODE_NAME: "node-a" },
    },
    types: [
      {
        typeUrl: ADDRESS_TYPE,
        apply: ({ resources }) => {
          count += resources.length;
          stop.abort();
          return [];
        },
      },
    ],
    onTerminated: () => stop.abort(),
    log: createLogger({ scope: "test", level: "silent", format: "json" }),
    clock: systemClock,
  });
  await client.run(stop.signal);
  return count;
}

/** By the cluster's own key: what the API server would say of itself. */
async function signed(claims: object): Promise<string> {
  const key = createPrivateKey(readFileSync(cluster.api.serviceAccountKeyFile));
  const pkcs8 = key.export({ type: "pkcs8", format: "pem" }).toString();
  const alg = key.asymmetricKeyType === "ec" ? "ES256" : "RS256";
  const jwt = new SignJWT({ ...claims }).setProtectedHeader({ alg });
  return await jwt.sign(await importPKCS8(pkcs8, alg));
}

async function lastLogged(message: string): Promise<string> {
  const { stdout } = await cluster.kubectl([
    "logs",
    "-n",
    SYSTEM,
    "deployment/istiod",
    "--tail=-1",
  ]);
  return stdout.split("\n").findLast((line) => line.includes(message)) ?? "nothing of the kind";
}

async function ztunnelOn(node: string): Promise<RunningPod> {
  const all = await podsOf(cluster, SYSTEM, "app=ztunnel");
  const found = all.find((pod) => pod.node === node && !pod.ending);
  assert.ok(found !== undefined, `no ztunnel on ${node}`);
  return found;
}

async function fileIn(pod: RunningPod, path: string): Promise<string> {
  const read = `process.stdout.write(require("fs").readFileSync(${JSON.stringify(path)}))`;
  const { stdout, stderr } = await cluster.exec(SYSTEM, pod.name, [NODE, "-e", read]);
  assert.ok(stdout.length > 0, stderr);
  return stdout.trim();
}

async function configDump(namespace: string, pod: string): Promise<string> {
  const fetchIt = `fetch("http://127.0.0.1:15000/config_dump").then(r => r.text()).then(t => process.stdout.write(t))`;
  const { stdout, stderr } = await cluster.exec(namespace, pod, [NODE, "-e", fetchIt]);
  assert.match(stdout, /workload/i, stderr);
  return stdout;
}

/** All service account tokens that were given to a pod. */
async function tokensIn(namespace: string, pod: string): Promise<string[]> {
  const paths = [TOKEN_FILE, "/var/run/secrets/kubernetes.io/serviceaccount/token"];
  const read = `for (const p of ${JSON.stringify(paths)})
    try { console.log(require("fs").readFileSync(p, "utf8").trim()) } catch {}`;
  const { stdout } = await cluster.exec(namespace, pod, [NODE, "-e", read]);
  return stdout.trim().split("\n").filter(Boolean);
}

/** What a pod listens on for others, as its kernel says; an application's own ports are its own business. */
async function openPorts(pod: RunningPod): Promise<number[]> {
  const look = `
    for ns in /run/netns/*; do
      nsenter --net=$ns ip -o address | grep -qF " $0/" || continue
      nsenter --net=$ns ss -Hltn
    done`;
  const { stdout } = await cluster.node(pod.node).exec(["sh", "-c", look, pod.ips[0] ?? ""], {
    allowFailure: true,
  });
  const ports = stdout
    .split("\n")
    .map((line) => line.trim().split(/\s+/)[3] ?? "")
    .filter((local) => !/^(127\.|\[::1\])/.test(local))
    .map((local) => Number(local.slice(local.lastIndexOf(":") + 1)))
    .filter((port) => port === 8000 || (port >= 15_000 && port < 16_000));
  // the loopback's are asked, too: nobody is to answer
  return [...new Set([...ports, 15_000, 15_053])];
}

const kindOf = (pod: string): string =>
  ["istiod", "ztunnel", "istio-cni-node"].find((kind) => pod.startsWith(`${kind}-`)) ??
  (pod.startsWith("keeper") ? "waypoint" : pod);

interface Heard {
  readonly pod: string;
  readonly port: number;
  readonly path: string;
  readonly status: number;
  readonly body: string;
}

/** In the stranger's pod: each question to each port; only HTTP answers are told. */
const KNOCK = `
const [targets, paths] = process.argv.slice(1).map((a) => JSON.parse(a));
const heard = [];
const ask = async ({ pod, ip }, port, question) => {
  const [method, path] = question.split(" ");
  try {
    const r = await fetch("http://" + ip + ":" + port + path, { method, signal: AbortSignal.timeout(3000) });
    heard.push({ pod, port, path: question, status: r.status, body: await r.text() });
  } catch {}
};
(async () => {
  for (const target of targets)
    for (const port of target.ports) await Promise.all(paths.map((path) => ask(target, port, path)));
  console.log(JSON.stringify(heard));
})();`;

const PATHS = [
  ...[
    "/",
    "/config_dump",
    "/metrics",
    "/stats/prometheus",
    "/stats",
    "/ready",
    "/readyz",
    "/healthz",
  ],
  ...[
    "/healthz/ready",
    "/version",
    "/debug",
    "/debug/",
    "/debug/adsz",
    "/debug/ambientz",
    "/debug/syncz",
  ],
  ...[
    "/debug/configz",
    "/debug/registryz",
    "/debug/endpointz",
    "/debug/pods",
    "/debug/pprof/profile",
  ],
  ...[
    "/debug/pprof/heap",
    "/ambit/tunnels",
    "/ambit/events",
    "/ambit/explain",
    "/logging",
    "/clusters",
  ],
]
  .map((path) => `GET ${path}`)
  .concat("POST /quitquitquit", "POST /logging?level=trace", "POST /debug/pprof/heap");

/** The whole of what anybody may hear. */
const ALLOWED = [
  "istio-cni-node 15014 GET /metrics",
  "istio-cni-node 8000 GET /healthz",
  "istio-cni-node 8000 GET /readyz",
  "istiod 15014 GET /metrics",
  "istiod 15014 GET /ready",
  "istiod 15014 GET /version",
  "waypoint 15020 GET /metrics",
  "waypoint 15020 GET /stats/prometheus",
  "waypoint 15021 GET /healthz/ready",
  "waypoint 15090 GET /metrics",
  "waypoint 15090 GET /stats/prometheus",
  "ztunnel 15020 GET /metrics",
  "ztunnel 15020 GET /stats/prometheus",
  "ztunnel 15021 GET /healthz/ready",
];

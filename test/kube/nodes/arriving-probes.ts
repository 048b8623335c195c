// A pod that says which probes reach it, and what must hold for them before, in and inside the mesh's strictest mode.
import assert from "node:assert/strict";
import type { TestContext } from "node:test";
import type { IpFamilies } from "../../../lab/address-plan.ts";
import { WORKLOAD_IMAGE } from "../images.ts";
import type { KubeCluster } from "../kube-cluster.ts";
import { idlePod, serviceAccount } from "../mesh.ts";
import { insideOf, podsOf, startMesh, type RunningPod } from "./installed-mesh.ts";

const SHOP = "shop";
/** The kubelet's source inside a pod of the mesh. */
const PROBE_SOURCE = /^(169\.254\.7\.127|fd16:9254:7127:1337:ffff:ffff:ffff:ffff)$/;

/** On a cluster of its own. */
export async function probesArrive(t: TestContext, ipFamily: IpFamilies): Promise<void> {
  await using cluster = await startMesh({ ipFamily });
  await cluster.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: SHOP } });
  await cluster.apply(
    ...["probed", "late", "client", "stranger"].map((name) => serviceAccount(SHOP, name)),
    probedPod("probed"),
    idlePod({ name: "client", namespace: SHOP, node: "node-a" }),
    outsider("stranger"),
  );
  await cluster.waitFor("condition=Ready", SHOP, "pod/probed", "pod/client", "pod/stranger");
  await assertEachArrives(cluster, "probed", "before the mesh");
  await cluster.kubectl(["label", "namespace", SHOP, "istio.io/dataplane-mode=ambient"]);
  await cluster.until("both pods to be in the mesh", async () =>
    (await podsOf(cluster, SHOP, "app in (probed, client)")).every((pod) => pod.captured),
  );
  await assertEachArrives(cluster, "probed", "in the mesh", PROBE_SOURCE);

  await cluster.apply(STRICT);
  const [probed] = await podsOf(cluster, SHOP, "app=probed");
  assert.ok(probed !== undefined && probed.ips.length === (ipFamily === "dual" ? 2 : 1));
  await cluster.until("strangers to be refused", async () => {
    const heard = await Promise.all(probed.ips.map((ip) => fetches(cluster, "stranger", ip)));
    return heard.every((isServed) => !isServed);
  });
  for (const ip of probed.ips)
    assert.equal(await fetches(cluster, "client", ip), true, "the mesh's own are served");
  await assertEachArrives(cluster, "probed", "with STRICT mTLS", PROBE_SOURCE);
  // born inside, under STRICT
  await cluster.apply(probedPod("late"));
  await cluster.waitFor("condition=Ready", SHOP, "pod/late");
  const counted = await assertEachArrives(cluster, "late", "of a new pod", PROBE_SOURCE);
  // the kubelet asks one family; what it would ask of the other comes from the node, too
  for (const ip of probed.ips) await assertNodeReaches(cluster, probed, ip);

  await cluster.exec(SHOP, "probed", ["touch", "/tmp/sick"]);
  await cluster.waitFor("condition=Ready=false", SHOP, "pod/probed");
  await cluster.exec(SHOP, "probed", ["rm", "/tmp/sick"]);
  await cluster.waitFor("condition=Ready", SHOP, "pod/probed");
  for (const pod of await podsOf(cluster, SHOP)) {
    assert.equal(pod.restarts, 0, `${pod.name} was restarted`);
    assert.equal((await insideOf(cluster, pod)).rules.length > 0, pod.name !== "stranger");
  }
  t.diagnostic(`${ipFamily}: ${counted} probes of the pod born under STRICT`);
}

const KINDS = ["http", "tcp", "exec"] as const;
type Kind = (typeof KINDS)[number];
type Arrivals = Readonly<Record<Kind, readonly { readonly from?: string }[]>>;

/** Waits for three more of each kind, all from where they should come. */
async function assertEachArrives(
  cluster: KubeCluster,
  name: string,
  what: string,
  source?: RegExp,
): Promise<string> {
  const begin = await arrivals(cluster, name);
  let now = begin;
  await cluster.until(`three probes of each kind ${what}`, async () => {
    now = await arrivals(cluster, name);
    return KINDS.every((kind) => now[kind].length >= begin[kind].length + 3);
  });
  if (source !== undefined)
    for (const kind of ["http", "tcp"] as const)
      for (const { from } of now[kind].slice(begin[kind].length)) assert.match(from ?? "", source);
  const [pod] = await podsOf(cluster, SHOP, `app=${name}`);
  assert.deepEqual([pod?.ready, pod?.restarts], [true, 0], what);
  return KINDS.map((kind) => `${now[kind].length} ${kind}`).join(", ");
}

async function arrivals(cluster: KubeCluster, pod: string): Promise<Arrivals> {
  const { stdout } = await cluster.kubectl(["logs", "-n", SHOP, pod, "--all-containers"]);
  const lines = stdout.split("\n").filter((line) => line.startsWith("{"));
  const all = lines.map((line) => JSON.parse(line) as { kind: Kind; from?: string });
  const of = (kind: Kind): Arrivals[Kind] => all.filter((line) => line.kind === kind);
  return { http: of("http"), tcp: of("tcp"), exec: of("exec") };
}

/** Its own node does, as a kubelet would; the other node is a stranger like any other. */
async function assertNodeReaches(cluster: KubeCluster, pod: RunningPod, ip: string): Promise<void> {
  const url = `http://${ip.includes(":") ? `[${ip}]` : ip}:8080/`;
  for (const node of cluster.nodes) {
    const argv = ["curl", "-sfo", "/dev/null", "--max-time", "5", "-A", "kube-probe/test", url];
    const { code } = await node.exec(argv, { allowFailure: true });
    assert.equal(code === 0, node.name === pod.node, `${url} from ${node.name}`);
  }
}

async function fetches(cluster: KubeCluster, from: string, ip: string): Promise<boolean> {
  const url = `http://${ip.includes(":") ? `[${ip}]` : ip}:8080/`;
  const argv = ["timeout", "5", "wget", "-q", "-O", "-", url];
  return (await cluster.exec(SHOP, from, argv)).stdout.includes("healthy");
}

/** Says who comes: HTTP on 8080, TCP on 9090. Unwell while /tmp/sick exists. */
const SERVER = `
const tell = (kind, from) => console.log(JSON.stringify({ kind, from: from?.replace("::ffff:", "") }));
require("node:http").createServer((request, response) => {
  if (request.headers["user-agent"]?.startsWith("kube-probe/1")) tell("http", request.socket.remoteAddress);
  response.statusCode = require("node:fs").existsSync("/tmp/sick") ? 503 : 200;
  response.setHeader("connection", "close");
  response.end("healthy\\n");
}).listen(8080, "::");
require("node:net").createServer((socket) => {
  tell("tcp", socket.remoteAddress);
  socket.on("error", () => {}).end();
}).listen(9090, "::");
process.once("SIGTERM", () => process.exit());
`;
/** Into the container's own log. */
const TELL_EXEC = `echo '{"kind":"exec"}' >/proc/1/fd/1`;

function probedPod(name: string): object {
  const often = { periodSeconds: 1, timeoutSeconds: 5, failureThreshold: 5 };
  const http = { httpGet: { path: "/", port: 8080 }, ...often };
  const containers = [
    {
      name: "server",
      command: ["node", "-e", SERVER],
      startupProbe: { ...http, failureThreshold: 60 },
      readinessProbe: http,
      livenessProbe: { tcpSocket: { port: 9090 }, ...often },
    },
    {
      name: "companion",
      command: ["sleep", "100000"],
      livenessProbe: { exec: { command: ["sh", "-c", TELL_EXEC] }, ...often },
    },
  ];
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: SHOP, labels: { app: name } },
    spec: {
      nodeName: "node-b",
      serviceAccountName: name,
      terminationGracePeriodSeconds: 0,
      containers: containers.map((c) => ({
        image: WORKLOAD_IMAGE,
        imagePullPolicy: "Never",
        ...c,
      })),
    },
  };
}

/** In the same namespace, and not in the mesh. */
function outsider(name: string): object {
  const pod = idlePod({ name, namespace: SHOP, node: "node-b" }) as {
    metadata: { labels: object };
  };
  Object.assign(pod.metadata.labels, { "istio.io/dataplane-mode": "none" });
  return pod;
}

const STRICT = {
  apiVersion: "security.istio.io/v1",
  kind: "PeerAuthentication",
  metadata: { name: "strict", namespace: SHOP },
  spec: { mtls: { mode: "STRICT" } },
};

// The way out: `ambit uninstall` refuses while pods are in the mesh; afterwards the cluster and its nodes are as they were
// before `ambit install`, object by object, file by file and rule by rule.
import assert from "node:assert/strict";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import { EXIT } from "../../../cli/errors.ts";
import { cliFor, type Cli } from "../api/cli-run.ts";
import { KubeCluster } from "../kube-cluster.ts";
import { kubeSandbox } from "../kube-sandbox.ts";
import { ask, idlePod, service, serviceAccount, workloadPod } from "../mesh.ts";
import { enrol, insideOf, podsOf, tracesOn } from "./installed-mesh.ts";

const needs = await kubeSandbox();
const SHOP = "shop";
const SAMPLES = join(import.meta.dirname, "../../../manifests/samples/shop");
const WEB = `web.${SHOP}.svc.cluster.local`;
const client = { namespace: SHOP, name: "client" };
/** Resources whose objects come and go by themselves, and a kubelet's lease, which is late at times. */
const TRANSIENT = /^(events|componentstatuses|apiservices)\b/;
const NODE_LEASE = /^Lease +kube-node-lease /;
let cluster: KubeCluster;
let cli: Cli;
let pristine: Snapshot;

before(async () => {
  if (needs.skip !== undefined) return;
  cluster = await KubeCluster.start({ crds: ["gateway-api"], images: ["ambit", "workload"] });
  cli = cliFor(cluster.api);
  await cluster.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: SHOP } });
  await cluster.apply(
    ...["web", "client"].map((name) => serviceAccount(SHOP, name)),
    service(SHOP, "web"),
    workloadPod({ name: "web", namespace: SHOP, node: "node-b" }),
    idlePod({ ...client, node: "node-a" }),
  );
  await cluster.waitFor("condition=Ready", SHOP, "pod/web", "pod/client");
  pristine = await snapshot();
  const ran = await cli("install --profile kind --set imagePullPolicy=Never -y --timeout 120s");
  assert.equal(ran.code, 0, ran.stderr);
});
after(() => cluster?.[Symbol.asyncDispose]());

test("in use, the mesh is not removed, and nothing is changed", needs, async () => {
  await enrol(cluster, SHOP);
  // everything the mesh writes for somebody else: a waypoint, its class, statuses, addresses
  const waypoint = await cli(`waypoint apply -n ${SHOP} --enroll-namespace --wait --timeout 90s`);
  assert.equal(waypoint.code, 0, waypoint.stderr);
  await cluster.kubectl(["apply", "-n", SHOP, "-f", join(SAMPLES, "policy-strict.yaml")]);
  const before = await snapshot();
  const ran = await cli("uninstall --purge -y");
  assert.equal(ran.code, EXIT.failed, ran.stderr + ran.stdout);
  assert.match(ran.stderr, /The mesh is in use: namespaces shop \(2 pod\(s\) captured\)/);
  assert.match(ran.stderr, /--unenroll/);
  assert.deepEqual(await snapshot(), before);
  assert.ok(await isAnswered("still-here"));
  for (const node of cluster.nodes) assert.notDeepEqual(await tracesOn(node), []);
});

test("uninstalled, the cluster and its nodes are as they were before", needs, async (t) => {
  const startMs = Date.now();
  const ran = await cli("uninstall --unenroll --purge -y");
  assert.equal(ran.code, 0, ran.stderr);
  t.diagnostic(
    `uninstalled in ${Date.now() - startMs} ms: ${ran.stdout.trim().split("\n").length} changes`,
  );
  // the rest goes in the background: what was in the namespace, and what the waypoint's Gateway owned
  let now = await snapshot();
  const isPristine = async (): Promise<boolean> =>
    isDeepStrictEqual((now = await snapshot()), pristine);
  await cluster.until("nothing to be left", isPristine).catch(() => undefined);
  assert.deepEqual(now, pristine);
  for (const node of cluster.nodes) assert.deepEqual(await tracesOn(node), [], node.name);
  const pods = await podsOf(cluster, SHOP);
  for (const pod of pods) {
    assert.deepEqual(await insideOf(cluster, pod), { rules: [], listeners: [] }, pod.name);
    assert.equal(pod.restarts, 0);
  }
  await using capture = await cluster.capture();
  assert.ok(await isAnswered("in-clear-again"));
  assert.ok(await capture.contains("in-clear-again"));
  // new pods start without the plugin
  await cluster.apply(
    idlePod({ name: "late", namespace: SHOP, node: "node-b", serviceAccount: "client" }),
  );
  await cluster.waitFor("condition=Ready", SHOP, "pod/late");
  await cluster.kubectl(["delete", "pod", "-n", SHOP, "late"]);
});

test("installed again, it works as the first time", needs, async () => {
  const ran = await cli("install --profile kind --set imagePullPolicy=Never -y --timeout 120s");
  assert.equal(ran.code, 0, ran.stderr);
  await enrol(cluster, SHOP);
  await cluster.until("the tunnel", async () => {
    await using capture = await cluster.capture();
    return (await isAnswered("once-more")) && !(await capture.contains("once-more"));
  });
});

/** Every object there is, and what others may have written to those that stay. */
interface Snapshot {
  readonly objects: readonly string[];
  readonly marks: Readonly<Record<string, unknown>>;
}

interface Marked {
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly namespace?: string;
    readonly labels?: object;
    readonly annotations?: object;
    readonly finalizers?: readonly string[];
  };
  readonly spec?: { readonly taints?: readonly object[] };
  readonly status?: { readonly conditions?: readonly { readonly type: string }[] };
}

async function snapshot(): Promise<Snapshot> {
  const names = async (args: readonly string[]): Promise<string[]> =>
    (await cluster.kubectl(args)).stdout.split("\n").filter((line) => line !== "");
  const kinds = await names(["api-resources", "--verbs=list", "-o", "name"]);
  const lasting = kinds.filter((name) => !TRANSIENT.test(name)).join(",");
  const objects = await names(["get", lasting, "-A", "--no-headers", "-o", COLUMNS]);
  const { stdout } = await cluster.kubectl(["get", "ns,nodes,pods,svc", "-A", "-o", "json"]);
  const { items } = JSON.parse(stdout) as { items: Marked[] };
  const marks = items.map(({ kind, metadata, spec, status }) => {
    const { labels, annotations, finalizers } = metadata;
    const conditions = status?.conditions?.map((c) => c.type).toSorted();
    const name = `${kind} ${metadata.namespace ?? ""}/${metadata.name}`;
    return [name, { labels, annotations, finalizers, conditions, taints: spec?.taints }];
  });
  const others = objects.filter((line) => !NODE_LEASE.test(line));
  return { objects: others.toSorted(), marks: Object.fromEntries(marks) };
}

const COLUMNS = "custom-columns=KIND:.kind,NAMESPACE:.metadata.namespace,NAME:.metadata.name";

async function isAnswered(words: string): Promise<boolean> {
  return (await ask(cluster, client, WEB, 80, words)).isAnswer;
}

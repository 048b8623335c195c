// The demo on a cluster, step by step: installed, tried on the sample shop, removed. Whatever made the cluster, kind
// or real kubelets in namespaces, everything from here on is what a user would type.
import { join } from "node:path";
import type { TunnelView } from "#lib/model/tunnel.ts";
import { PORT } from "#lib/net/ports.ts";
import type { Capture } from "../capture.ts";
import { crossedBetween } from "../pcap.ts";
import { ambit, type AmbitOptions } from "../demo/ambit.ts";
import { play, type Step } from "../demo/play.ts";
import { eventually, expect, type Notes } from "../demo/step.ts";
import { ROOT } from "../mesh-parts.ts";
import type { DemoCluster, MakeCluster } from "./cluster.ts";
import { ClusterShop, isReadable, SHOP } from "./shop.ts";

/** What earlier steps made; disposed when the story ends, however it ends. */
interface Scene {
  readonly owned: AsyncDisposableStack;
  readonly make: MakeCluster;
  cluster?: DemoCluster;
  shop?: ClusterShop;
}

const INSTALL_MS = 300_000;
const WAIT_MS = 120_000;
const NAMESPACE = "istio-system";
const SAMPLES = "manifests/samples/shop";
const WAYPOINT = "server-waypoint";
const SERVER = `spiffe://cluster.local/ns/${SHOP}/sa/server`;
const CLIENT = `spiffe://cluster.local/ns/${SHOP}/sa/client`;

const CLUSTER_STORY: readonly Step<Scene>[] = [
  { title: "A cluster, the image, and Gateway API's definitions", run: makeCluster },
  { title: "One command installs the mesh", run: install },
  { title: "A shop opens, on two nodes", run: openShop },
  { title: "Before: every word crosses the link in clear", run: watchClear },
  { title: "The namespace joins the mesh; no pod is restarted", run: enrol },
  { title: "After: the same words, unreadable on the link", run: watchEncrypted },
  { title: "Every connection carries two identities, live in `ambit tunnels`", run: listTunnels },
  { title: "A policy denies one client, and `ambit explain` says which policy it was", run: deny },
  { title: "STRICT mTLS refuses the stranger outside the mesh", run: requireMutualTls },
  { title: "A waypoint for the server's service account", run: addWaypoint },
  { title: "The namespace leaves the mesh: plain traffic again", run: unenrol },
  { title: "Uninstalled: nothing stays behind", run: uninstall },
];

/** From nothing to nothing. @returns the exit status */
export async function playOnCluster(
  where: string,
  make: MakeCluster,
  json: boolean,
): Promise<number> {
  await using owned = new AsyncDisposableStack();
  const title = `Ambit: an ambient service mesh on ${where}`;
  return await play({ title, steps: CLUSTER_STORY, scene: { owned, make }, json });
}

async function makeCluster(scene: Scene, notes: Notes): Promise<void> {
  const cluster = await scene.make(notes);
  scene.cluster = scene.owned.use(cluster);
  notes.show(await cluster.kubectl(["get", "nodes"]));
}

async function install(scene: Scene, notes: Notes): Promise<void> {
  const { image } = clusterOf(scene);
  await ambitIn(scene, notes, ["check", "--pre"]);
  const argv = ["install", "--profile", "kind", "--set", `image=${image}`, "--yes"];
  await ambitIn(scene, notes, argv, { timeoutMs: INSTALL_MS });
  notes.show(await ambitIn(scene, notes, ["status"]));
}

async function openShop(scene: Scene, notes: Notes): Promise<void> {
  const cluster = clusterOf(scene);
  notes.did(`kubectl apply -k ${SAMPLES}`);
  await cluster.kubectl(["apply", "-k", join(ROOT, SAMPLES)]);
  const shop = await ClusterShop.opened(cluster, WAIT_MS);
  scene.shop = shop;
  for (const pod of await shop.pods())
    notes.saw(`${pod.namespace}/${pod.name} on node ${pod.node}: ${pod.ip}`);
  const seen = await shop.clientHears(2, 20_000);
  notes.saw(`the client asks each second and is answered by ${seen.join(" and ")}`);
}

async function watchClear(scene: Scene, notes: Notes): Promise<void> {
  const { cluster, shop } = bothOf(scene);
  await watching(cluster, notes, async (capture) => {
    await shop.clientHears(2, 20_000);
    await shop.askAll();
    const readable = (await capture.flows()).filter(isReadable);
    expect(readable.length > 0, "the server's answers can be read on the link");
    notes.saw(`${readable.length} connections can be read on the link, for instance:`);
    const [flow] = readable;
    const words = /server v\d on \S+/.exec(flow?.bytes.toString("latin1") ?? "")?.[0];
    notes.show(`${flow?.src} → ${flow?.dst}  "${words}"`);
  });
}

async function enrol(scene: Scene, notes: Notes): Promise<void> {
  const { shop } = bothOf(scene);
  const before = await shop.pods();
  notes.show(await ambitIn(scene, notes, ["enroll", `ns/${SHOP}`, "--wait"]));
  const after = await shop.pods();
  expect(
    JSON.stringify(after.map(identityOf)) === JSON.stringify(before.map(identityOf)),
    "the same pods, none of them restarted",
  );
  notes.saw("the same pods as before, none restarted");
  await shop.clientHears(2, 20_000);
  notes.saw("the client goes on being answered");
}

async function watchEncrypted(scene: Scene, notes: Notes): Promise<void> {
  const { cluster, shop } = bothOf(scene);
  await watching(cluster, notes, async (capture) => {
    await shop.clientHears(2, 20_000);
    await shop.askAll();
    const ips = new Set((await shop.pods()).map((pod) => pod.ip));
    const flows = await capture.flows();
    expect(!flows.some(isReadable), "no answer of a server can be read on the link");
    const { tunnels, clear } = crossedBetween(flows, ips);
    const [other] = clear;
    expect(
      other === undefined,
      `nothing between the shop's pods but HBONE; there is ${other?.src} → ${other?.dst}:${other?.dstPort}`,
    );
    expect(tunnels.length > 0, `HBONE on port ${PORT.hbone}`);
    const bytes = tunnels.reduce((sum, f) => sum + f.bytes.length, 0);
    notes.saw(
      `${bytes} bytes between the pods, all on port ${PORT.hbone}, and no answer can be read`,
    );
  });
}

async function listTunnels(scene: Scene, notes: Notes): Promise<void> {
  const { shop } = bothOf(scene);
  shop.hold();
  const tunnel = await eventually("a connection with both identities", 20_000, async () =>
    (await tunnelsIn(scene)).find(
      (t) =>
        t.source.identity === CLIENT &&
        t.destination.identity === SERVER &&
        t.security === "mutual_tls",
    ),
  );
  notes.saw(`${tunnel.source.identity} → ${tunnel.destination.identity}`);
  notes.show(await ambitIn(scene, notes, ["tunnels", "-n", SHOP]));
}

async function deny(scene: Scene, notes: Notes): Promise<void> {
  const { cluster, shop } = bothOf(scene);
  expect((await shop.ask("visitor")).answered, "the visitor is served before the policy");
  await apply(cluster, notes, "policy-deny-visitor.yaml");
  await eventually(
    "the visitor is refused",
    20_000,
    async () => !(await shop.ask("visitor")).answered,
  );
  notes.saw(`the visitor's program sees: ${(await shop.ask("visitor")).words.trim()}`);
  const [visitor] = await shop.pods("visitor");
  const argv = ["explain", "connection", `pod/${visitor?.name}`, "svc/server:80", "-n", SHOP];
  const text = await ambitIn(scene, notes, argv, { code: 3 });
  expect(text.includes("deny-visitor"), "the explanation names the policy");
  notes.show(text);
  await shop.clientHears(2, 20_000);
  notes.saw("the client goes on being answered");
}

async function requireMutualTls(scene: Scene, notes: Notes): Promise<void> {
  const { cluster, shop } = bothOf(scene);
  expect((await shop.ask("stranger")).answered, "the stranger is served while mTLS is permissive");
  notes.saw("before: the stranger, in plain text from outside the mesh, is served");
  await apply(cluster, notes, "policy-strict.yaml");
  await eventually(
    "the stranger is refused",
    20_000,
    async () => !(await shop.ask("stranger")).answered,
  );
  notes.saw(`after STRICT: the stranger sees: ${(await shop.ask("stranger")).words.trim()}`);
  await shop.clientHears(2, 20_000);
  notes.saw("the client, inside the mesh, goes on being answered");
}

async function addWaypoint(scene: Scene, notes: Notes): Promise<void> {
  const { shop } = bothOf(scene);
  const argv = "waypoint apply --service-account server --no-template --wait --yes -n".split(" ");
  notes.show(await ambitIn(scene, notes, [...argv, SHOP], { timeoutMs: WAIT_MS }));
  notes.show(await ambitIn(scene, notes, ["waypoint", "list", "-n", SHOP]));
  shop.hold();
  const via = await eventually("a connection through the waypoint", 30_000, async () =>
    (await tunnelsIn(scene)).find((t) => t.via?.kind === "waypoint" && t.via.name === WAYPOINT),
  );
  notes.saw(`${via.source.identity} goes through ${via.via?.namespace}/${via.via?.name}`);
  await shop.clientHears(2, 20_000);
  await ambitIn(scene, notes, ["waypoint", "delete", WAYPOINT, "--unenroll", "-n", SHOP]);
  await shop.clientHears(2, 30_000);
  notes.saw("deleted again; the client goes on being answered");
}

async function unenrol(scene: Scene, notes: Notes): Promise<void> {
  const { cluster, shop } = bothOf(scene);
  notes.show(await ambitIn(scene, notes, ["unenroll", `ns/${SHOP}`, "--wait"]));
  for (const file of ["policy-strict.yaml", "policy-deny-visitor.yaml"])
    await cluster.kubectl(["delete", "-f", join(ROOT, SAMPLES, file)]);
  await shop.clientHears(2, 20_000);
  await watching(cluster, notes, async (capture) => {
    await shop.askAll();
    expect((await capture.flows()).some(isReadable), "answers can be read on the link again");
    notes.saw("packet capture: plain text again");
  });
}

async function uninstall(scene: Scene, notes: Notes): Promise<void> {
  const { cluster } = bothOf(scene);
  await cluster.kubectl(["delete", "-k", join(ROOT, SAMPLES), "--wait=false"]);
  await ambitIn(scene, notes, ["uninstall", "--purge", "--yes"], { timeoutMs: INSTALL_MS });
  await eventually(`namespace ${NAMESPACE} is gone`, WAIT_MS, async () => {
    const namespaces = await cluster.kubectl(["get", "namespaces", "-o", "name"]);
    return !namespaces.includes(`namespace/${NAMESPACE}\n`);
  });
  const crds = await cluster.kubectl(["get", "crds", "-o", "name"]);
  expect(!crds.includes("istio.io"), `no definition of ours is left, there is ${crds}`);
  const left = await cluster.onNodes(
    "nft list tables | grep istio; grep -l istio-cni /etc/cni/net.d/* 2>/dev/null; true",
  );
  for (const [node, text] of left)
    expect(text.trim() === "", `nothing on ${node}, there is ${text}`);
  notes.saw(
    `no rule, no CNI entry on ${[...left.keys()].join(" and ")}; no namespace, no definition`,
  );
}

/** Runs `body` with a capture, or says why there is none. */
async function watching(
  cluster: DemoCluster,
  notes: Notes,
  body: (capture: Capture) => Promise<void>,
): Promise<void> {
  await using capture = await cluster.capture(notes);
  if (capture === null) return;
  notes.did("packet capture on the link");
  await body(capture);
}

async function apply(cluster: DemoCluster, notes: Notes, file: string): Promise<void> {
  notes.did(`kubectl apply -f ${SAMPLES}/${file}`);
  await cluster.kubectl(["apply", "-f", join(ROOT, SAMPLES, file)]);
}

function ambitIn(
  scene: Scene,
  notes: Notes | null,
  argv: readonly string[],
  o: AmbitOptions = {},
): Promise<string> {
  return ambit({ KUBECONFIG: clusterOf(scene).kubeconfig }, notes, argv, {
    timeoutMs: WAIT_MS,
    ...o,
  });
}

async function tunnelsIn(scene: Scene): Promise<readonly TunnelView[]> {
  const text = await ambitIn(scene, null, ["tunnels", "-n", SHOP, "-o", "json"]);
  return (JSON.parse(text) as { readonly items: readonly TunnelView[] }).items;
}

function clusterOf(scene: Scene): DemoCluster {
  if (scene.cluster === undefined) throw new Error("The cluster is not up");
  return scene.cluster;
}

function bothOf(scene: Scene): { readonly cluster: DemoCluster; readonly shop: ClusterShop } {
  if (scene.shop === undefined) throw new Error("The shop is not open");
  return { cluster: clusterOf(scene), shop: scene.shop };
}

const identityOf = (pod: { readonly uid: string; readonly restarts: number }): string =>
  `${pod.uid} ${pod.restarts}`;

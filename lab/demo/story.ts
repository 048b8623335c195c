// The demo's steps in order. Each acts, observes real traffic, and fails when it sees anything else.
import { setTimeout as sleep } from "node:timers/promises";
import type { TunnelView } from "#lib/model/tunnel.ts";
import { PORT } from "#lib/net/ports.ts";
import { RESOURCES } from "#lib/kube/objects.ts";
import { Lab } from "../lab.ts";
import { run } from "../process.ts";
import type { ClientEvent } from "../workloads.ts";
import { ambit } from "./ambit.ts";
import { denialText, EventTap, type NodeEvent } from "./event-tap.ts";
import type { Step } from "./play.ts";
import { authorizationPolicy, DENY_NAME, peerAuthentication } from "./policies.ts";
import { SERVER_PORT, Shop, SHOP } from "./shop.ts";
import { eventually, expect, type Notes } from "./step.ts";

const REDIRECTION = "ambient.istio.io/redirection";

/** What earlier steps made; disposed when the story ends, however it ends. */
export interface Scene {
  readonly owned: AsyncDisposableStack;
  readonly dir: string;
  lab?: Lab;
  shop?: Shop;
}

export const STORY: readonly Step<Scene>[] = [
  { title: "Two nodes, joined by a link we can watch", run: makeNodes },
  { title: "istiod, and on each node a CNI agent and a ztunnel", run: startMesh },
  { title: "A shop opens: clients on node a, server v1 and v2 on node b", run: openShop },
  { title: "Before: every word crosses the link in clear", run: watchClear },
  { title: "The namespace joins the mesh while the client is busy", run: enrol },
  { title: "After: the same words, unreadable on the link", run: watchEncrypted },
  { title: "Every connection carries two identities, live in `ambit tunnels`", run: listTunnels },
  { title: "A policy denies one client, and both ends say which policy it was", run: denyVisitor },
  { title: "STRICT mTLS refuses the stranger outside the mesh", run: requireMutualTls },
  { title: "The namespace leaves the mesh: plain traffic again", run: unenrol },
  { title: "Nothing stays behind", run: tearDown },
];

async function makeNodes(scene: Scene, notes: Notes): Promise<void> {
  const lab = scene.owned.use(await Lab.create({ dir: scene.dir, control: true }));
  scene.lab = lab;
  for (const node of lab.nodes)
    notes.saw(`node ${node.name}: ${node.addresses.join(", ")}, pods ${node.podCidrs.join(", ")}`);
  const { stdout } = await lab.node("a").exec(["ip", "-brief", "link", "show", "eth0"]);
  expect(/\bUP\b/.test(stdout), "node a's link is up");
}

async function startMesh(scene: Scene, notes: Notes): Promise<void> {
  const lab = labOf(scene);
  await lab.mesh.startAll();
  for (const part of lab.mesh.parts) expect(part.process?.running === true, `${part.name} runs`);
  notes.saw("istiod is ready: configuration and certificates");
  for (const { name } of lab.nodes) notes.saw(`node ${name}: CNI agent and ztunnel are ready`);
}

async function openShop(scene: Scene, notes: Notes): Promise<void> {
  const lab = labOf(scene);
  const shop = await Shop.open(lab);
  scene.shop = shop;
  for (const pod of lab.pods)
    notes.saw(`${pod.namespace}/${pod.name} on node ${pod.node}: ${pod.ip}`);
  const events = await shop.answers(10);
  const servers = new Set(
    events.flatMap((e) => (e.answer === undefined ? [] : [serverOf(e.answer)])),
  );
  notes.saw(
    `the client asks 10 times a second and is answered by ${[...servers].sort().join(" and ")}`,
  );
}

async function watchClear(scene: Scene, notes: Notes): Promise<void> {
  const { lab, shop } = bothOf(scene);
  await using capture = await lab.link.capture();
  await shop.answers(10);
  const { clear, tunnels } = await shop.flows(capture);
  expect(tunnels.length === 0, "no HBONE on the link yet");
  const questions = clear.filter((f) => f.dstPort === SERVER_PORT);
  const readable = questions.filter((f) => f.bytes.includes(shop.secret));
  expect(readable.length > 0, "the secret can be read on the link");
  const [flow] = readable;
  notes.did("packet capture on the link");
  notes.saw(
    `the client's secret can be read in ${readable.length} of ${questions.length} connections to port ${SERVER_PORT}:`,
  );
  notes.show(`${flow?.src} → ${flow?.dst}  "${flow?.bytes.toString("latin1").trim()}"`);
}

async function enrol(scene: Scene, notes: Notes): Promise<void> {
  const { lab, shop } = bothOf(scene);
  const before = shop.events.length;
  const began = performance.now();
  await ambit(meshOf(lab), notes, ["label", "namespace", SHOP, "istio.io/dataplane-mode=ambient"]);
  const names = [shop.client, shop.visitor, ...shop.servers].map((p) => p.name);
  await eventually(`pods ${names.join(", ")} are redirected`, 15_000, async () => {
    const pods = await lab.cluster.list(RESOURCES.pods, { namespace: SHOP });
    return pods.every((p) => p.metadata.annotations?.[REDIRECTION] === "enabled");
  });
  const tookMs = Math.round(performance.now() - began);
  notes.saw(
    `${names.length} pods captured in ${tookMs} ms, none restarted (the same processes go on)`,
  );
  await using held = await shop.hold(shop.client);
  await eventually("a tunnel between the nodes", 10_000, async () => {
    expect(held.running, "the client with a long connection runs");
    return (await tunnelsOf(lab, "a")).some((t) => t.security === "mutual_tls");
  });
  await shop.answers(10);
  const events = shop.events.slice(before);
  const answered = events.filter((e) => e.event === "answer").length;
  notes.saw(`the busy client meanwhile: ${answered} questions answered, ${errorsOf(events)}`);
}

async function watchEncrypted(scene: Scene, notes: Notes): Promise<void> {
  const { lab, shop } = bothOf(scene);
  await using capture = await lab.link.capture();
  const events = await shop.answers(10);
  const { clear, tunnels } = await shop.flows(capture);
  notes.did("packet capture on the link");
  expect(
    clear.length === 0,
    `nothing between the pods but HBONE; there is ${clear.map((f) => `${f.src} → ${f.dst}:${f.dstPort}`).join(", ")}`,
  );
  expect(tunnels.length > 0, `HBONE on port ${PORT.hbone}`);
  shop.expectUnreadable(tunnels);
  const bytes = tunnels.reduce((sum, f) => sum + f.bytes.length, 0);
  notes.saw(
    `${tunnels.length / 2} tunnels to port ${PORT.hbone}, ${bytes} bytes, every one TLS; the secret is nowhere`,
  );
  const [sample] = tunnels;
  notes.show(
    `${sample?.src} → ${sample?.dst}  ${sample?.bytes.subarray(0, 24).toString("hex").replace(/../g, "$& ")}…`,
  );
  const answer = events.findLast((e) => e.answer !== undefined)?.answer ?? "";
  expect(
    answer.split(" ")[1] === shop.client.ip,
    `the server still sees the client's address ${shop.client.ip}, not ${answer.split(" ")[1]}`,
  );
  notes.saw(
    `the client's questions are answered as before, and servers still see its address ${shop.client.ip}`,
  );
}

async function listTunnels(scene: Scene, notes: Notes): Promise<void> {
  const { lab, shop } = bothOf(scene);
  await using held = await shop.hold(shop.client);
  await held.waitForOutput(/"answer"/, 5_000);
  const wantSource = identity("client");
  const wantDestination = identity("server");
  for (const node of ["a", "b"]) {
    const tunnel = await eventually(
      `node ${node} lists the held connection with both identities`,
      5_000,
      async () =>
        (await tunnelsOf(lab, node)).find(
          (t) =>
            t.source.identity === wantSource &&
            t.destination.identity === wantDestination &&
            t.security === "mutual_tls",
        ),
    );
    notes.saw(`node ${node}, ${tunnel.direction}: ${wantSource} → ${wantDestination}`);
  }
  notes.show(await ambit(meshOf(lab), notes, ["tunnels"]));
}

async function denyVisitor(scene: Scene, notes: Notes): Promise<void> {
  const { lab, shop } = bothOf(scene);
  const before = await shop.ask(shop.visitor);
  expect(
    "answer" in before,
    `the visitor is served before the policy; it saw ${JSON.stringify(before)}`,
  );
  using tap = await EventTap.open(lab);
  await ambit(meshOf(lab), notes, ["apply", "-f", "-"], { input: authorizationPolicy() });
  notes.show(authorizationPolicy());
  const after = await eventually("the visitor is refused", 10_000, async () => {
    const result = await shop.ask(shop.visitor);
    return "error" in result ? result : null;
  });
  notes.saw(`the visitor's program sees: ${after.error}`);
  for (const { node, side } of [
    { node: "a", side: "client" },
    { node: "b", side: "server" },
  ]) {
    const event = await eventually(
      `the ${side}'s ztunnel (node ${node}) names policy ${DENY_NAME}`,
      5_000,
      () => tap.events.find((e) => e.node === node && namesPolicy(e)),
    );
    notes.saw(`${side}'s ztunnel: ${denialText(event)}`);
  }
  await shop.answers(5);
  notes.saw("the client goes on being served");
}

async function requireMutualTls(scene: Scene, notes: Notes): Promise<void> {
  const { lab, shop } = bothOf(scene);
  const before = await shop.ask(shop.stranger);
  expect(
    "answer" in before,
    `the stranger is served while mTLS is permissive; it saw ${JSON.stringify(before)}`,
  );
  notes.saw("before: the stranger, in plain text from outside the mesh, is served");
  await ambit(meshOf(lab), notes, ["apply", "-f", "-"], { input: peerAuthentication() });
  notes.show(peerAuthentication());
  const after = await eventually("the stranger is refused", 10_000, async () => {
    const result = await shop.ask(shop.stranger);
    return "error" in result ? result : null;
  });
  notes.saw(`after STRICT: the stranger sees: ${after.error}`);
  await shop.answers(5);
  notes.saw("the client, inside the mesh, goes on being served");
}

async function unenrol(scene: Scene, notes: Notes): Promise<void> {
  const { lab, shop } = bothOf(scene);
  await ambit(meshOf(lab), notes, ["label", "namespace", SHOP, "istio.io/dataplane-mode-"]);
  await eventually("no pod is redirected any more", 15_000, async () => {
    const pods = await lab.cluster.list(RESOURCES.pods, { namespace: SHOP });
    return pods.every((p) => p.metadata.annotations?.[REDIRECTION] === undefined);
  });
  await shop.answers(5);
  await using capture = await lab.link.capture();
  await shop.answers(10);
  const { clear, tunnels } = await shop.flows(capture);
  expect(
    clear.some((f) => f.bytes.includes(shop.secret)),
    "the secret can be read on the link again",
  );
  expect(tunnels.length === 0, "no HBONE on the link any more");
  notes.saw("packet capture: plain text again, no tunnel");
  const rules = await Promise.all(
    [shop.client, ...shop.servers].map((p) =>
      p.exec(["sh", "-c", "nft list ruleset; ip rule list | grep -c 32764 || true"]),
    ),
  );
  for (const { stdout } of rules)
    expect(stdout.trim() === "0", `no rule left in the pods, found: ${stdout.slice(0, 200)}`);
  notes.saw("the pods hold no redirection rules, routes or listeners of the mesh");
}

async function tearDown(scene: Scene, notes: Notes): Promise<void> {
  const lab = labOf(scene);
  await lab[Symbol.asyncDispose]();
  await sleep(50);
  const { stdout: namespaces } = await run(["ip", "netns", "list"]);
  expect(namespaces.trim() === "", `no network namespace, there is ${namespaces.trim()}`);
  const { stdout } = await run(["ps", "-eo", "pid,stat,args", "--no-headers"]);
  // besides us: the sandbox's first process and this ps
  const others = stdout
    .split("\n")
    .filter(
      (l) =>
        l.trim() !== "" &&
        !/^\s*(1|\d+\s+Z)\s/.test(l) &&
        !/\bps -eo|defunct/.test(l) &&
        Number(l.trim().split(" ")[0]) !== process.pid,
    );
  expect(others.length === 0, `no process, there is ${others.join("; ")}`);
  notes.saw("no network namespace, no process; the files go with this program");
}

function labOf(scene: Scene): Lab {
  if (scene.lab === undefined) throw new Error("The lab is not up");
  return scene.lab;
}

function bothOf(scene: Scene): { readonly lab: Lab; readonly shop: Shop } {
  if (scene.shop === undefined) throw new Error("The shop is not open");
  return { lab: labOf(scene), shop: scene.shop };
}

/** "none failed", or how many and how. */
function errorsOf(events: readonly ClientEvent[]): string {
  const kinds = Map.groupBy(
    events.filter((e) => e.event === "error"),
    (e) => e.error ?? "",
  );
  const counts = [...kinds].map(([error, list]) => `${list.length} × ${error}`);
  return counts.length === 0 ? "none failed" : `failed: ${counts.join(", ")}`;
}

const meshOf = (lab: Lab): { readonly AMBIT_LAB: string } => ({ AMBIT_LAB: lab.dir });
const identity = (account: string): string => `spiffe://cluster.local/ns/${SHOP}/sa/${account}`;
const serverOf = (answer: string): string => answer.split(" ")[0] ?? "";

const namesPolicy = (event: NodeEvent): boolean =>
  (event.event === "deny" || event.event === "error") &&
  (event.policy?.name === DENY_NAME || (event.detail ?? "").includes(DENY_NAME));

async function tunnelsOf(lab: Lab, node: string): Promise<readonly TunnelView[]> {
  const list = (await lab.mesh.json("ztunnel", node, PORT.ztunnelAdmin, "/ambit/tunnels")) as {
    readonly items: readonly TunnelView[];
  };
  return list.items;
}

// The whole mesh on the lab: enrolment, identity on the wire, and what happens when a part is gone.
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { RESOURCES } from "#lib/kube/objects.ts";
import { PORT } from "#lib/net/ports.ts";
import type { TunnelView } from "#lib/model/tunnel.ts";
import type { Lab } from "../../lab/lab.ts";
import type { LabPod } from "../../lab/pod.ts";
import { clientEvents, workload, type ClientEvent } from "../../lab/workloads.ts";
import { ask, clientPod, echoPod, labSandbox, testLab } from "../harness/lab.ts";

const needsLab = await labSandbox();
const SHOP = "shop";

interface Meshed extends AsyncDisposable {
  readonly lab: Lab;
  readonly client: LabPod;
  readonly server: LabPod;
}

/** Two nodes with everything running, `shop` enrolled, a client on a and a server on b behind a Service. */
async function meshed(families: "ipv4" | "ipv6" | "dual" = "ipv4"): Promise<Meshed> {
  await using undo = new AsyncDisposableStack();
  const lab = undo.use(await testLab({ families }));
  await lab.mesh.startAll();
  await lab.namespace(SHOP, { "istio.io/dataplane-mode": "ambient" });
  await lab.service({
    name: "server",
    namespace: SHOP,
    selector: { app: "server" },
    ports: [{ name: "tcp", port: 80, targetPort: 8080 }],
  });
  const [client, server] = await Promise.all([
    clientPod(lab, "a", "client", SHOP),
    echoPod(lab, "b", "server", SHOP),
  ]);
  await lab.waitForEndpoints(SHOP, "server", families === "dual" ? 2 : 1);
  await until(
    "both ztunnels know the server",
    async () => (await tryAsk(client, "server", 80)) !== null,
  );
  const owned = undo.move();
  return { lab, client, server, [Symbol.asyncDispose]: () => owned[Symbol.asyncDispose]() };
}

async function until(
  what: string,
  holds: () => Promise<boolean>,
  timeoutMs = 10_000,
): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await holds())) {
    assert.ok(Date.now() < deadline, `not within ${timeoutMs} ms: ${what}`);
    await sleep(50); // lets the cluster's own watch run
  }
}

async function tryAsk(from: LabPod, host: string, port: number): Promise<string | null> {
  return ask(from, host, port).catch(() => null);
}

/** What one attempt of a client sees: its answer or its error. */
async function attempt(from: LabPod, host: string, port: number): Promise<ClientEvent | undefined> {
  const { stdout } = await from.exec(
    workload("client", { host, port, text: "ATTEMPT", count: 1, timeoutMs: 1_500 }),
  );
  return clientEvents(stdout).at(-1);
}

async function tunnels(lab: Lab, node: string): Promise<readonly TunnelView[]> {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a test may assume the shape it then checks
  const list = (await lab.mesh.json("ztunnel", node, PORT.ztunnelAdmin, "/ambit/tunnels")) as {
    items: readonly TunnelView[];
  };
  return list.items;
}

/** Whether the node's ztunnel has the pod's record, and it says HBONE. */
async function isKnown(lab: Lab, node: string, pod: string): Promise<boolean> {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a test may assume the shape it then checks
  const dump = (await lab.mesh.json("ztunnel", node, PORT.ztunnelAdmin, "/config_dump")) as {
    workloads: readonly { readonly name: string; readonly protocol: string }[];
  };
  return dump.workloads.some((w) => w.name === pod && w.protocol === "HBONE");
}

for (const families of ["ipv4", "ipv6"] as const)
  test(
    `an enrolled namespace talks through HBONE only, with both identities (${families})`,
    needsLab,
    async () => {
      await using m = await meshed(families);
      await using capture = await m.lab.link.capture();
      await using held = await m.client.start(
        workload("client", { host: "server", port: 80, text: "WORDS", keep: true, intervalMs: 50 }),
      );
      await held.waitForOutput(/"answer":"server [^ ]+ WORDS 5"/);
      // the server sees the client's own address
      assert.ok(held.stdout.includes(`server ${m.client.ip} WORDS`), held.stdout);
      for (const node of ["a", "b"]) {
        const found = (await tunnels(m.lab, node)).find(
          (t) => t.source.identity === `spiffe://cluster.local/ns/${SHOP}/sa/client`,
        );
        assert.equal(found?.security, "mutual_tls", `node ${node}`);
        assert.equal(found.destination.identity, `spiffe://cluster.local/ns/${SHOP}/sa/server`);
      }
      const pods = new Set([...m.client.ips, ...m.server.ips]);
      const flows = (await capture.flows()).filter(
        (f) => f.protocol === "tcp" && pods.has(f.src) && pods.has(f.dst),
      );
      assert.ok(flows.length > 0);
      for (const f of flows) {
        assert.ok(
          f.srcPort === PORT.hbone || f.dstPort === PORT.hbone,
          `${f.src}:${f.srcPort} → ${f.dst}:${f.dstPort}`,
        );
        assert.ok(!f.bytes.includes("WORDS"));
      }
    },
  );

test("a killed ztunnel means refused, never clear; its successor serves", needsLab, async () => {
  await using m = await meshed();
  await m.lab.kill("ztunnel", "a");
  await using capture = await m.lab.link.capture();
  const refused = await attempt(m.client, m.server.ip, 8080);
  assert.equal(refused?.answer, undefined);
  assert.ok(!(await capture.contains("ATTEMPT")));
  await m.lab.start("ztunnel", "a");
  await until(
    "served again",
    async () => (await attempt(m.client, "server", 80))?.answer !== undefined,
  );
  assert.ok(!(await capture.contains("ATTEMPT")));
});

test(
  "without istiod, known workloads go on talking, and changes arrive when it is back",
  needsLab,
  async () => {
    await using m = await meshed();
    await m.lab.kill("istiod");
    for (let n = 0; n < 3; n++) assert.match(await ask(m.client, "server", 80), /^server /);
    await m.lab.start("istiod");
    const late = await echoPod(m.lab, "b", "late", SHOP);
    await using capture = await m.lab.link.capture();
    // before its record has come, an address is none of the mesh
    await until("the new pod is known", async () => await isKnown(m.lab, "a", "late"));
    await until(
      "the new pod is reached through the mesh",
      async () => (await attempt(m.client, late.ip, 8080))?.answer !== undefined,
    );
    assert.ok(!(await capture.contains("ATTEMPT")));
  },
);

test(
  "an agent that was killed comes back to what it left, and pods wait for it meanwhile",
  needsLab,
  async () => {
    await using m = await meshed();
    await m.lab.kill("cni", "a");
    assert.match(await ask(m.client, "server", 80), /^server /);
    await assert.rejects(clientPod(m.lab, "a", "early", SHOP), /plugin istio-cni/);
    const patient = m.lab.runPod("a", {
      name: "patient",
      namespace: SHOP,
      labels: { app: "patient" },
      serviceAccount: "patient",
      retryMs: 20_000,
    });
    await m.lab.start("cni", "a");
    await until(
      "served through the mesh",
      async () => (await attempt(await patient, "server", 80))?.answer !== undefined,
    );
    assert.match(await ask(m.client, "server", 80), /^server /);
    const stored = await m.lab.cluster.get(RESOURCES.pods, SHOP, "patient");
    assert.equal(stored?.metadata.annotations?.["ambient.istio.io/redirection"], "enabled");
  },
);

test("tunnels recover after the link was cut", { ...needsLab, timeout: 90_000 }, async () => {
  await using m = await meshed();
  await m.lab.link.cut("b");
  assert.equal((await attempt(m.client, "server", 80))?.answer, undefined);
  await m.lab.link.restore("b");
  await until(
    "served again",
    async () => (await attempt(m.client, "server", 80))?.answer !== undefined,
    45_000,
  );
});

test(
  "leaving the mesh brings plain traffic back and leaves no rule in the pod",
  needsLab,
  async () => {
    await using m = await meshed();
    await m.lab.namespace(SHOP, { "istio.io/dataplane-mode": null });
    await until("annotations are gone", async () => {
      const pods = await m.lab.cluster.list(RESOURCES.pods, { namespace: SHOP });
      return pods.every(
        (p) => p.metadata.annotations?.["ambient.istio.io/redirection"] === undefined,
      );
    });
    await using capture = await m.lab.link.capture();
    await until(
      "plain traffic",
      async () => (await attempt(m.client, "server", 80))?.answer !== undefined,
    );
    assert.ok(await capture.contains("ATTEMPT"));
    for (const pod of [m.client, m.server]) {
      assert.equal((await pod.exec(["nft", "list", "ruleset"])).stdout, "");
      assert.doesNotMatch((await pod.exec(["ip", "rule"])).stdout, /32764/);
    }
  },
);

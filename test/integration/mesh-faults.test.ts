// Parts die, cables are pulled, proxies are replaced: what goes on, what is refused, and that nothing of it
// ever leaves in clear.
import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { RESOURCES } from "#lib/kube/objects.ts";
import { parseIp } from "#lib/net/ip.ts";
import { closeHandingOver } from "#lib/sys/listener-handover.ts";
import { closeFd } from "#lib/sys/netns.ts";
import { accept, listenTcp } from "#lib/sys/socket.ts";
import type { Lab } from "../../lab/lab.ts";
import { Netns } from "../../lab/netns.ts";
import type { LabPod } from "../../lab/pod.ts";
import { labSandbox } from "../harness/lab.ts";
import {
  allow,
  AMBIENT,
  dial,
  echoLines,
  hasPolicy,
  known,
  logLine,
  pod,
  sharedMesh,
  suite,
  tryAsk,
  tunnels,
  within,
  type Service,
} from "./mesh-fixture.ts";

const needsLab = await labSandbox();
/** 10 s until a silent tunnel is pinged, 20 s for the answer (contract of HBONE keepalives), and slack. */
const PING_TIMEOUT_MS = 35_000;
const SUCCESSOR_ADDRESS = "172.30.0.60";

describe("faults", suite(needsLab, 240_000), () => {
  let client: LabPod;
  let server: LabPod;
  let echo: Service;
  after(() => echo[Symbol.asyncDispose]());
  const mesh = sharedMesh({}, async (lab) => {
    await lab.namespace("shop", AMBIENT);
    [client, server] = await Promise.all([pod(lab, "a", "client"), pod(lab, "b", "server")]);
    await known(lab, client, server);
    echo = await echoLines(server);
  });

  test("istiod is killed: open and new connections go on, and changes arrive when it is back", async () => {
    using open = await dial(client, server.ip, 8080);
    await open.ask("before");
    await mesh().kill("istiod");
    assert.match(await open.ask("during"), /during$/);
    for (let n = 0; n < 5; n++) assert.equal(await tryAsk(client, server.ip), answer(client));
    await using policy = await allow(mesh(), "meanwhile", {
      selector: { matchLabels: { app: "server" } },
      action: "DENY",
      rules: [{ from: [{ source: { serviceAccounts: ["nobody"] } }] }],
    });
    void policy;
    assert.ok(!(await hasPolicy(mesh(), "b", "meanwhile")));
    await mesh().start("istiod");
    await within("the change arrives", () => hasPolicy(mesh(), "b", "meanwhile"), 20_000);
    assert.match(await open.ask("after"), /after$/);
    await logLine(mesh(), "ztunnel", "a", /warn\txds\t/);
  });

  test("a killed ztunnel: refused, never in clear; its successor serves within seconds", async (t) => {
    using open = await dial(client, server.ip, 8080);
    await open.ask("before");
    await using atClient = await echoLines(client);
    await using capture = await mesh().link.capture();
    await mesh().kill("ztunnel", "a");
    await open.closed();
    await assert.rejects(dial(client, server.ip, 8080), /ECONNREFUSED/);
    await assert.rejects(dial(client, "10.96.0.10", 8080), /ECONNREFUSED/);
    // and nobody gets in: neither through a tunnel nor past the rules
    assert.equal(await tryAsk(server, client.ip, 8080, "NEVER-CLEAR"), null);
    assert.equal(atClient.peers.length, 0);
    assert.ok(!(await capture.contains("NEVER-CLEAR")));
    const began = performance.now();
    await mesh().mesh.start("ztunnel", "a", { wait: false });
    await within(
      "served again",
      async () => (await tryAsk(client, server.ip, 8080, "NEVER-CLEAR")) !== null,
    );
    const tookMs = performance.now() - began;
    t.diagnostic(`the successor served after ${Math.round(tookMs)} ms`);
    assert.ok(tookMs < 10_000, `${Math.round(tookMs)} ms`);
    await mesh().mesh.waitReady(mesh().mesh.part("ztunnel", "a"));
    assert.equal(
      await tryAsk(server, client.ip, 8080, "NEVER-CLEAR"),
      `client ${server.ip} NEVER-CLEAR`,
    );
    assert.ok(!(await capture.contains("NEVER-CLEAR")));
  });

  test("a killed agent: pods wait for it, and what was broken in between is repaired", async () => {
    await mesh().kill("cni", "a");
    await assert.rejects(pod(mesh(), "a", "early"), /istio-cni/);
    assert.equal(await mesh().cluster.get(RESOURCES.pods, "shop", "early"), null);
    // its rules are gone: this pod is now outside the mesh in both directions
    await client.exec(["nft", "flush", "ruleset"]);
    await client.exec(["ip", "rule", "del", "priority", "32764"]);
    const patient = pod(mesh(), "a", "patient", { retryMs: 20_000 });
    await mesh().start("cni", "a");
    await within("the rules are back", async () => {
      const rules = (await client.exec(["nft", "list", "ruleset"])).stdout;
      return (
        rules.includes("15001") && (await client.exec(["ip", "rule"])).stdout.includes("32764")
      );
    });
    await known(mesh(), await patient);
    await using capture = await mesh().link.capture();
    for (const from of [client, await patient])
      assert.equal(await tryAsk(from, server.ip, 8080, "REPAIRED"), `server ${from.ip} REPAIRED`);
    assert.ok(!(await capture.contains("REPAIRED")));
    await mesh().node("a").deletePod("shop", "patient");
  });

  test("a cut link: connections end when pings go unanswered, and new ones work once it is back", {
    timeout: 70_000,
  }, async () => {
    using open = await dial(client, server.ip, 8080);
    await open.ask("before");
    await mesh().link.cut("b");
    open.socket.write("into the void\n");
    const began = performance.now();
    await open.closed(PING_TIMEOUT_MS);
    assert.equal(open.received, `${answer(client, "before")}\n`);
    assert.ok(performance.now() - began > 5_000, "it ended for another reason");
    assert.equal(await tryAsk(client, server.ip, 8080, "x", 500), null);
    await logLine(mesh(), "ztunnel", "a", /ping/i);
    await within(
      "the far side has noticed too",
      async () => (await tunnels(mesh(), "b")).length === 0,
      15_000,
    );
    await mesh().link.restore("b");
    const back = performance.now();
    await within(
      "served again",
      async () => (await tryAsk(client, server.ip, 8080, "x", 2_000)) !== null,
    );
    assert.ok(performance.now() - back < 5_000, `${Math.round(performance.now() - back)} ms`);
  });

  test("a short cut is survived by open connections", async () => {
    using open = await dial(client, server.ip, 8080);
    await open.ask("before");
    await mesh().link.cut("b");
    open.socket.write("held up\n");
    await sleep(1_000); // the cut itself, not a wait for something
    await mesh().link.restore("b");
    await within("the answer", () => open.received.includes("held up"), 10_000);
    assert.equal(open.isClosed, false);
  });

  test("a terminated ztunnel lets connections finish and takes none", async () => {
    using open = await dial(client, server.ip, 8080);
    await open.ask("before");
    const leaving = mesh().stop("ztunnel", "a");
    await within("it takes no more", async () => {
      const peer = await dial(client, server.ip, 8080).catch(() => null);
      peer?.socket.destroy();
      return peer === null;
    });
    for (let n = 0; n < 5; n++) assert.match(await open.ask(`draining ${n}`), /draining/);
    open.socket.end();
    const began = performance.now();
    assert.equal(await leaving, 0);
    assert.ok(
      performance.now() - began < 3_000,
      "it left as soon as the last connection had ended",
    );
    await mesh().start("ztunnel", "a");
    await within("served again", async () => (await tryAsk(client, server.ip)) !== null);
  });

  test("a drain deadline ends what will not finish", { timeout: 40_000 }, async () => {
    using open = await dial(client, server.ip, 8080);
    await open.ask("before");
    const began = performance.now();
    assert.equal(await mesh().stop("ztunnel", "a"), 0);
    const tookMs = performance.now() - began;
    // TERMINATION_GRACE_PERIOD_SECONDS is 10 in the lab: nine seconds
    assert.ok(tookMs > 7_500 && tookMs < 11_500, `${Math.round(tookMs)} ms`);
    await open.closed();
    await mesh().start("ztunnel", "a");
    await within("served again", async () => (await tryAsk(client, server.ip)) !== null);
  });

  test("who waits in the queue of a closing listener is taken by its successor", async () => {
    await using netns = await Netns.create("handover");
    const listenOn = (): number =>
      listenTcp({ ip: parseIp("127.0.0.1"), port: 9_000, netns: netns.fd, reusePort: true });
    const old = listenOn();
    const waiting = await Promise.all(
      Array.from({ length: 50 }, () => dial({ netns }, "127.0.0.1", 9_000)),
    );
    const successor = listenOn();
    closeHandingOver(netns.fd, () => closeFd(old));
    for (let n = 0; n < waiting.length; n++) {
      const got = accept(successor);
      assert.ok(got !== null, `only ${n} came over`);
      closeFd(got.fd);
    }
    closeFd(successor);
    for (const peer of waiting) await peer.closed();
    assert.ok(waiting.every((peer) => peer.error === null));
    const setting = ["cat", "/proc/sys/net/ipv4/tcp_migrate_req"];
    assert.equal((await netns.run(setting)).stdout.trim(), "0");
  });

  // node a takes the connections of the client, node b those of the server
  for (const node of ["a", "b"])
    test(`a successor beside the ztunnel of node ${node} takes over without one failed connection`, {
      timeout: 60_000,
    }, async () => {
      using open = await dial(client, server.ip, 8080);
      await open.ask("before");
      const crowd = new Crowd(client, server.ip);
      await crowd.answered(50);
      {
        await using successor = await secondZtunnel(mesh(), node);
        await within("the successor is ready", () => successor.isReady(), 20_000);
        await crowd.answered(100); // the kernel spreads them over both
        const leaving = mesh().stop("ztunnel", node);
        await crowd.answered(200);
        assert.match(await open.ask("still here"), /still here$/);
        open.socket.end();
        assert.equal(await leaving, 0);
        await crowd.answered(200);
        assert.deepEqual(await crowd.stop(), []);
      }
      await mesh().start("ztunnel", node);
      await within("served again", async () => (await tryAsk(client, server.ip)) !== null);
    });
});

/** Four clients that open one connection after the other, each with one question. */
class Crowd {
  #answers = 0;
  readonly #errors: string[] = [];
  #isOver = false;
  readonly #loops: Promise<void[]>;

  constructor(from: LabPod, ip: string) {
    this.#loops = Promise.all(Array.from({ length: 4 }, () => this.#loop(from, ip)));
  }

  /** Waits for so many more answers. */
  async answered(count: number): Promise<void> {
    const goal = this.#answers + count;
    await within(`${count} answers`, () => this.#answers >= goal);
  }

  /** What went wrong, if anything. */
  async stop(): Promise<readonly string[]> {
    this.#isOver = true;
    await this.#loops;
    return this.#errors;
  }

  async #loop(from: LabPod, ip: string): Promise<void> {
    while (!this.#isOver)
      try {
        using peer = await dial(from, ip, 8080);
        await peer.ask("hello");
        this.#answers++;
      } catch (error) {
        this.#errors.push((error as Error).message);
      }
  }
}

const answer = (from: LabPod, line = "hello"): string => `server ${from.ip} ${line}`;

/** A ztunnel of the same node in a namespace of its own, as the pods of a rolling update have. */
async function secondZtunnel(
  lab: Lab,
  node: string,
): Promise<AsyncDisposable & { isReady(): Promise<boolean> }> {
  await using undo = new AsyncDisposableStack();
  const netns = undo.use(await Netns.create(`successor-${node}`));
  await lab.link.connect("successor", netns, [SUCCESSOR_ADDRESS]);
  const part = lab.mesh.part("ztunnel", node);
  const plan = part.plan();
  const process = undo.use(
    await netns.start(plan.argv, { name: "second ztunnel", env: plan.env, logFile: part.logFile }),
  );
  const owned = undo.move();
  return {
    isReady: async () => {
      const response = await lab.mesh.request(
        { ...part, netns, process },
        plan.ready.port,
        plan.ready.path,
        1_000,
      );
      response.resume();
      return response.statusCode === 200;
    },
    [Symbol.asyncDispose]: () => owned[Symbol.asyncDispose](),
  };
}

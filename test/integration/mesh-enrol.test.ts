// Pods join and leave the mesh, one by one and in crowds, while they talk.
import assert from "node:assert/strict";
import { readdirSync, readlinkSync } from "node:fs";
import { describe, test } from "node:test";
import { RESOURCES } from "#lib/kube/objects.ts";
import type { Lab } from "../../lab/lab.ts";
import type { LabPod } from "../../lab/pod.ts";
import { clientEvents, workload } from "../../lab/workloads.ts";
import { labSandbox } from "../harness/lab.ts";
import {
  AMBIENT,
  configDump,
  echoLines,
  known,
  pidOf,
  pod,
  sharedMesh,
  suite,
  tryAsk,
  within,
} from "./mesh-fixture.ts";

const needsLab = await labSandbox();
const REDIRECTION = "ambient.istio.io/redirection";
/** While rules and records change, this many of the busy client's questions may fail. */
const MAX_LOST = 6;

describe("enrolment", suite(needsLab), () => {
  let client: LabPod;
  let server: LabPod;
  const mesh = sharedMesh({}, async (lab) => {
    await lab.namespace("shop");
    [client, server] = await Promise.all([pod(lab, "a", "client"), pod(lab, "b", "server")]);
  });

  test("a busy namespace joins and leaves: connections fail for a moment at most", async () => {
    await using _ = await echoLines(server);
    await using busy = await client.start(
      workload("client", {
        host: server.ip,
        port: 8080,
        text: "BUSY",
        intervalMs: 20,
        timeoutMs: 1_000,
      }),
    );
    const answers = (): number =>
      clientEvents(busy.stdout).filter((e) => e.event === "answer").length;
    const more = (): Promise<void> => {
      const goal = answers() + 10;
      return busy.waitUntil(() => answers() >= goal, "answers", 5_000);
    };
    await more();
    await mesh().namespace("shop", AMBIENT);
    await annotated(mesh(), true, "client", "server");
    await known(mesh(), client, server);
    await more();
    {
      await using capture = await mesh().link.capture();
      await more();
      assert.ok(!(await capture.contains("BUSY")));
      assert.ok((await capture.flows()).some((f) => f.dstPort === 15_008));
    }
    const joined = lost(busy.stdout);
    await mesh().namespace("shop", { "istio.io/dataplane-mode": null });
    await annotated(mesh(), false, "client", "server");
    await more();
    {
      await using capture = await mesh().link.capture();
      await more();
      assert.ok(await capture.contains("BUSY"));
    }
    const left = lost(busy.stdout) - joined;
    assert.ok(joined <= MAX_LOST && left <= MAX_LOST, `lost ${joined} joining, ${left} leaving`);
    await clean(client);
    await clean(server);
    for (const node of ["a", "b"])
      assert.deepEqual((await configDump(mesh(), node)).workloadState, {});
  });

  test("the first connection of a pod born in the mesh is tunnelled already", async () => {
    await mesh().namespace("shop", AMBIENT);
    await annotated(mesh(), true, "client", "server");
    await known(mesh(), client, server);
    await using _ = await echoLines(server);
    await using capture = await mesh().link.capture();
    const born = await pod(mesh(), "a", "newborn", {
      command: workload("client", {
        host: server.ip,
        port: 8080,
        text: "FIRST-WORDS",
        intervalMs: 1,
        count: 3,
      }),
    });
    await within(
      "it has been answered",
      () => (born.main?.stdout ?? "").split("FIRST-WORDS").length > 3,
    );
    assert.equal(lost(born.main?.stdout ?? ""), 0);
    assert.match(
      born.main?.stdout ?? "",
      new RegExp(`server ${born.ip.replaceAll(".", "\\.")} FIRST-WORDS 1`),
    );
    assert.ok(!(await capture.contains("FIRST-WORDS")));
    await mesh().node("a").deletePod("shop", "newborn");
  });

  test("the pod's own label decides: none keeps it out, ambient brings it in", async () => {
    const [out, into] = await Promise.all([
      pod(mesh(), "a", "out", { labels: { app: "out", "istio.io/dataplane-mode": "none" } }),
      pod(mesh(), "a", "into", {
        namespace: "street",
        labels: { app: "into", "istio.io/dataplane-mode": "ambient" },
      }),
    ]);
    await known(mesh(), into);
    await using _ = await echoLines(server);
    await using capture = await mesh().link.capture();
    assert.equal(await tryAsk(out, server.ip, 8080, "OUTSIDE"), `server ${out.ip} OUTSIDE`);
    assert.equal(await tryAsk(into, server.ip, 8080, "INSIDE"), `server ${into.ip} INSIDE`);
    assert.ok(await capture.contains("OUTSIDE"));
    assert.ok(!(await capture.contains("INSIDE")));
    await clean(out);
    const { workloadState } = await configDump(mesh(), "a");
    assert.ok(workloadState[into.uid] !== undefined && workloadState[out.uid] === undefined);
    // the label goes, and with it all the rules
    await mesh().cluster.patch(
      RESOURCES.pods,
      "street",
      "into",
      { metadata: { labels: { "istio.io/dataplane-mode": null } } },
      { fieldManager: "test" },
    );
    await within(
      "it has left",
      async () => (await redirection(mesh(), "street", "into")) === undefined,
    );
    await clean(into);
    await mesh().node("a").deletePod("shop", "out");
    await mesh().node("a").deletePod("street", "into");
  });

  test("ten pods at once are all in, and when they go nothing of them stays", async () => {
    await using _ = await echoLines(server);
    const count = async (node: string): Promise<number> =>
      Object.keys((await configDump(mesh(), node)).workloadState).length;
    const before = { a: await count("a"), b: await count("b") };
    for (let round = 0; round < 2; round++) {
      const openBefore = [descriptors(mesh(), "a").all, descriptors(mesh(), "b").others];
      const crowd = await Promise.all(
        Array.from({ length: 10 }, (_, n) => pod(mesh(), n % 2 === 0 ? "a" : "b", `crowd-${n}`)),
      );
      await known(mesh(), ...crowd);
      assert.deepEqual(
        { a: await count("a"), b: await count("b") },
        { a: before.a + 5, b: before.b + 5 },
      );
      await using capture = await mesh().link.capture();
      const answers = await Promise.all(
        crowd.map((from) => tryAsk(from, server.ip, 8080, "CROWD", 10_000)),
      );
      assert.deepEqual(
        answers,
        crowd.map((from) => `server ${from.ip} CROWD`),
      );
      assert.ok(!(await capture.contains("CROWD")));
      await Promise.all(crowd.map((p) => mesh().node(p.node).deletePod("shop", p.name)));
      await within(
        "the ztunnels have let go",
        async () => (await count("a")) === before.a && (await count("b")) === before.b,
      );
      if (round === 0) continue; // the first round opens what a ztunnel keeps, such as its channel to the CA
      // the server's end of a dead pod's tunnel stays until its ping goes unanswered; all else goes at once
      await within(`descriptors come back to ${openBefore.join(" and ")}`, () => {
        const now = [descriptors(mesh(), "a").all, descriptors(mesh(), "b").others];
        return now.every((n, i) => n <= (openBefore[i] ?? 0));
      });
    }
  });
});

/** What a ztunnel holds open: all of it, and without sockets. */
function descriptors(lab: Lab, node: string): { readonly all: number; readonly others: number } {
  const dir = `/proc/${pidOf(lab, "ztunnel", node)}/fd`;
  const targets = readdirSync(dir).map((fd) => {
    try {
      return readlinkSync(`${dir}/${fd}`);
    } catch {
      return ""; // closed meanwhile
    }
  });
  return { all: targets.length, others: targets.filter((t) => !t.startsWith("socket:")).length };
}

const lost = (output: string): number =>
  clientEvents(output).filter((e) => e.event === "error").length;

async function redirection(lab: Lab, namespace: string, name: string): Promise<string | undefined> {
  const object = await lab.cluster.get(RESOURCES.pods, namespace, name);
  return object?.metadata.annotations?.[REDIRECTION];
}

async function annotated(lab: Lab, isIn: boolean, ...names: readonly string[]): Promise<void> {
  for (const name of names)
    await within(`${name} is ${isIn ? "in" : "out"}`, async () => {
      return (await redirection(lab, "shop", name)) === (isIn ? "enabled" : undefined);
    });
}

/** Nothing of the mesh is left inside: rules, routes, listeners. */
async function clean(p: LabPod): Promise<void> {
  assert.equal((await p.exec(["nft", "list", "ruleset"])).stdout, "");
  assert.doesNotMatch((await p.exec(["ip", "rule"])).stdout, /32764/);
  assert.equal(
    (await p.exec(["ip", "route", "show", "table", "all"])).stdout.includes("table 100"),
    false,
  );
  assert.doesNotMatch((await p.exec(["ss", "-ltunH"])).stdout, /:150\d\d\b/);
}

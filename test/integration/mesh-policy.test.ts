// Who may talk to whom: each kind of source and destination match on real traffic, PeerAuthentication,
// open connections when policy changes, and what is told about a denial at both ends.
import assert from "node:assert/strict";
import { writeFile, rename, rm, mkdir } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import type { AuthorizationPolicy } from "#lib/kube/objects.ts";
import { EventTap } from "../../lab/demo/event-tap.ts";
import type { LabPod } from "../../lab/pod.ts";
import { labSandbox } from "../harness/lab.ts";
import {
  allow,
  AMBIENT,
  dial,
  echoLines,
  getText,
  hasPolicy,
  inForce,
  known,
  logLine,
  peerAuthentication,
  pod,
  sharedMesh,
  suite,
  tryAsk,
  within,
  type Service,
} from "./mesh-fixture.ts";

type Spec = NonNullable<AuthorizationPolicy["spec"]>;

const needsLab = await labSandbox();
const SERVER = { matchLabels: { app: "server" } };
const CLOSE_WITHIN_MS = 1_000;

describe("policy", suite(needsLab), () => {
  let client: LabPod;
  let visitor: LabPod;
  let guest: LabPod;
  let stranger: LabPod;
  let server: LabPod;
  let other: LabPod;
  const mesh = sharedMesh({}, async (lab) => {
    await lab.namespace("shop", AMBIENT);
    await lab.namespace("other", AMBIENT);
    [client, visitor, guest, stranger, server, other] = await Promise.all([
      pod(lab, "a", "client"),
      pod(lab, "a", "visitor"),
      pod(lab, "a", "guest", { namespace: "other" }),
      pod(lab, "a", "stranger", { namespace: "street" }),
      pod(lab, "b", "server"),
      pod(lab, "b", "other"),
    ]);
    await known(lab, client, visitor, guest, server, other);
  });

  /** Who of the four is served, once the policy named is in force. */
  async function served(port = 8080): Promise<Record<string, boolean>> {
    const all = { client, visitor, guest, stranger };
    const answers = await Promise.all(
      Object.entries(all).map(
        async ([name, from]) => [name, (await tryAsk(from, server.ip, port)) !== null] as const,
      ),
    );
    return Object.fromEntries(answers);
  }

  const everybody = { client: true, visitor: true, guest: true, stranger: true };
  const cases: readonly {
    readonly name: string;
    readonly spec: Spec;
    readonly on8080: Record<string, boolean>;
    readonly on8081?: Record<string, boolean>;
  }[] = [
    {
      name: "ALLOW by principal",
      spec: {
        action: "ALLOW",
        rules: [{ from: [{ source: { principals: ["cluster.local/ns/shop/sa/client"] } }] }],
      },
      on8080: { client: true, visitor: false, guest: false, stranger: false },
    },
    {
      name: "DENY by namespace",
      spec: { action: "DENY", rules: [{ from: [{ source: { namespaces: ["other"] } }] }] },
      on8080: { ...everybody, guest: false },
    },
    {
      name: "ALLOW by service account",
      spec: { rules: [{ from: [{ source: { serviceAccounts: ["visitor", "other/guest"] } }] }] },
      on8080: { client: false, visitor: true, guest: true, stranger: false },
    },
    {
      name: "DENY by port",
      spec: { action: "DENY", rules: [{ to: [{ operation: { ports: ["8081"] } }] }] },
      on8080: everybody,
      on8081: { client: false, visitor: false, guest: false, stranger: false },
    },
    {
      name: "ALLOW nothing",
      spec: { action: "ALLOW" },
      on8080: { client: false, visitor: false, guest: false, stranger: false },
    },
  ];

  for (const c of cases)
    test(c.name, async () => {
      await using _ = await echoLines(server);
      await using __ = await echoLines(server, 8081);
      const policy = await allow(mesh(), "rule", { selector: SERVER, ...c.spec });
      try {
        await within("the policy", () => inForce(mesh(), server, "rule"));
        assert.deepEqual(await served(), c.on8080);
        if (c.on8081 !== undefined) assert.deepEqual(await served(8081), c.on8081);
        // the neighbour under no policy is not concerned
        await using ___ = await echoLines(other);
        assert.notEqual(await tryAsk(visitor, other.ip), null);
      } finally {
        await policy[Symbol.asyncDispose]();
      }
      await within("everybody is served again", async () =>
        isDeepStrictEqual(await served(), everybody),
      );
    });

  test("DENY by address block, of one pod", async () => {
    await using _ = await echoLines(server);
    await using policy = await allow(mesh(), "block", {
      selector: SERVER,
      action: "DENY",
      rules: [{ from: [{ source: { ipBlocks: [`${visitor.ip}/32`] } }] }],
    });
    void policy;
    await within("the policy", () => inForce(mesh(), server, "block"));
    assert.deepEqual(await served(), { ...everybody, visitor: false });
  });

  test("a dry-run policy denies nobody", async () => {
    await using _ = await echoLines(server);
    await using policy = await allow(
      mesh(),
      "dry",
      {
        selector: SERVER,
        action: "DENY",
        rules: [{ from: [{ source: { namespaces: ["shop"] } }] }],
      },
      { annotations: { "istio.io/dry-run": "true" } },
    );
    void policy;
    await using barrier = await allow(mesh(), "barrier", { action: "DENY" });
    void barrier;
    await within("istiod is past both", () => hasPolicy(mesh(), "b", "barrier"));
    assert.deepEqual(await served(), everybody);
  });

  test("STRICT refuses plaintext; a PERMISSIVE port is excepted", async () => {
    await using _ = await echoLines(server);
    await using __ = await echoLines(server, 8081);
    const strict = await peerAuthentication(mesh(), "strict", { mtls: { mode: "STRICT" } });
    await within(
      "the stranger is refused",
      async () => (await tryAsk(stranger, server.ip)) === null,
    );
    assert.deepEqual(await served(), { ...everybody, stranger: false });
    assert.equal((await served(8081)).stranger, false);
    await logLine(mesh(), "ztunnel", "b", /reason="mtls_required"/);
    // the node's own probes are no traffic of the mesh
    assert.notEqual(await tryAsk(mesh().node("b"), server.ip), null);
    const excepted = await peerAuthentication(mesh(), "excepted", {
      selector: SERVER,
      mtls: { mode: "STRICT" },
      portLevelMtls: { "8081": { mode: "PERMISSIVE" } },
    });
    await within("8081 is open", async () => (await served(8081)).stranger === true);
    assert.deepEqual(await served(), { ...everybody, stranger: false });
    await excepted[Symbol.asyncDispose]();
    await strict[Symbol.asyncDispose]();
    await within("plaintext again", async () => (await served()).stranger === true);
  });

  test("a denial names the policy at both ends, in the access log and in the events", async () => {
    await using _ = await echoLines(server);
    await using policy = await allow(mesh(), "no-visitors", {
      selector: SERVER,
      action: "DENY",
      rules: [{ from: [{ source: { principals: ["cluster.local/ns/shop/sa/visitor"] } }] }],
    });
    void policy;
    await within("the policy", () => inForce(mesh(), server, "no-visitors"));
    using tap = await EventTap.open(mesh());
    using peer = await dial(visitor, server.ip, 8080);
    peer.socket.write("hello\n");
    await within("the visitor's connection ends", () => peer.isClosed || peer.hasEnded);
    assert.equal(peer.received, "");
    const source = "spiffe://cluster.local/ns/shop/sa/visitor";
    const into = await within(
      "the server's event",
      () => tap.events.find((e) => e.node === "b" && e.event === "deny") ?? null,
    );
    assert.deepEqual(into.policy, { namespace: "shop", name: "no-visitors" });
    assert.equal(into.reason, "policy_explicit_deny");
    assert.equal(into.source.identity, source);
    const out = await within(
      "the client's event",
      () => tap.events.find((e) => e.node === "a" && e.event === "error") ?? null,
    );
    assert.deepEqual(out.policy, { namespace: "shop", name: "no-visitors" });
    assert.match(out.detail ?? "", /401/);
    for (const [node, direction] of [
      ["a", "outbound"],
      ["b", "inbound"],
    ] as const)
      await logLine(
        mesh(),
        "ztunnel",
        node,
        new RegExp(
          `\\terror\\taccess\\tconnection complete\\t.*src.identity="${source}".*direction="${direction}".*shop/no-visitors`,
        ),
      );
  });

  test("a connection that a new policy forbids is closed within a second; others stay", async (t) => {
    await using _ = await echoLines(server);
    const times: number[] = [];
    for (let round = 0; round < 3; round++) {
      await within("all are admitted", async () => {
        const now = await served();
        return now["visitor"] === true && now["stranger"] === true;
      });
      using denied = await dial(visitor, server.ip, 8080);
      using kept = await dial(client, server.ip, 8080);
      using plain = await dial(stranger, server.ip, 8080);
      for (const peer of [denied, kept, plain]) await peer.ask("before");
      await using policy = await allow(mesh(), "late", {
        selector: SERVER,
        action: "DENY",
        rules: [
          { from: [{ source: { principals: ["cluster.local/ns/shop/sa/visitor"] } }] },
          { from: [{ source: { ipBlocks: [`${stranger.ip}/32`] } }] },
        ],
      });
      await within("both are closed", () => ended(denied) && ended(plain), 5_000);
      times.push(performance.now() - policy.appliedAt);
      assert.match(await kept.ask("after"), /after$/);
      assert.equal(await tryAsk(visitor, server.ip), null);
    }
    t.diagnostic(`closed ${times.map(Math.round).join(", ")} ms after the file was in place`);
    assert.ok(Math.max(...times) < CLOSE_WITHIN_MS, `closed after ${times.map(Math.round)} ms`);
    await logLine(mesh(), "ztunnel", "b", /reason="policy_changed"/);
    await within("admitted again", async () => (await tryAsk(visitor, server.ip)) !== null);
  });

  test("a policy edited under an open connection closes it, and lets it in when put right", async () => {
    await using _ = await echoLines(server);
    const rule = (sa: string): Spec => ({
      selector: SERVER,
      rules: [{ from: [{ source: { serviceAccounts: [sa] } }] }],
    });
    await using policy = await allow(mesh(), "edited", rule("client"));
    void policy;
    await within("the policy", () => inForce(mesh(), server, "edited"));
    using peer = await dial(client, server.ip, 8080);
    await peer.ask("one");
    await allow(mesh(), "edited", rule("visitor"));
    await within("it is closed", () => ended(peer), 2_000);
    await within("the visitor is let in", async () => (await tryAsk(visitor, server.ip)) !== null);
    assert.equal(await tryAsk(client, server.ip), null);
  });

  test("a malformed manifest is named by file, line and field; the last good state stays", async () => {
    await using _ = await echoLines(server);
    await using policy = await allow(mesh(), "good", {
      selector: SERVER,
      action: "DENY",
      rules: [{ from: [{ source: { principals: ["cluster.local/ns/shop/sa/visitor"] } }] }],
    });
    void policy;
    await within("the policy", () => inForce(mesh(), server, "good"));
    const dir = join(mesh().manifestDir, "by-hand");
    const file = join(dir, "broken.yaml");
    await mkdir(dir, { recursive: true });
    const head =
      "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: by-hand, namespace: shop}\n";
    const write = async (body: string): Promise<void> => {
      await writeFile(`${dir}/.broken`, head + body);
      await rename(`${dir}/.broken`, file);
    };
    try {
      await write("spec:\n  selector: {matchLabels: {app: server}}\n  action: DENY\n");
      await within("the good version", () => inForce(mesh(), server, "by-hand"));
      await write("spec:\n  selector: {matchLabels: {app: server}}\n  rules: nonsense\n");
      const line = await logLine(mesh(), "istiod", undefined, /broken\.yaml/);
      assert.match(line, /broken\.yaml:6.*spec\.rules/);
      await write("spec:\n  selector: {matchLabels: [\n");
      await logLine(mesh(), "istiod", undefined, /broken\.yaml:\d+(?!.*spec\.rules)/);
      // as before: both policies of the last good state are in force
      assert.ok(await hasPolicy(mesh(), "b", "by-hand"));
      assert.equal(await tryAsk(visitor, server.ip), null);
      assert.notEqual(await tryAsk(client, server.ip), null);
      assert.match(await getText(mesh(), "istiod", undefined, 15_014, "/ready"), /./);
    } finally {
      await rm(dir, { recursive: true });
    }
    await within(
      "the file's policy is gone",
      async () => !(await hasPolicy(mesh(), "b", "by-hand")),
    );
  });
});

const ended = (peer: Service["peers"][number]): boolean => peer.isClosed || peer.hasEnded;

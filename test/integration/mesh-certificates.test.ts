// Certificates and tokens: rotation that nobody notices, and refusals that are named where they are decided.
import assert from "node:assert/strict";
import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { RESOURCES } from "#lib/kube/objects.ts";
import type { Lab } from "../../lab/lab.ts";
import type { LabPod } from "../../lab/pod.ts";
import type { TokenOptions } from "../../lab/tokens.ts";
import { clientEvents, workload } from "../../lab/workloads.ts";
import { labSandbox } from "../harness/lab.ts";
import {
  AMBIENT,
  configDump,
  dial,
  echoLines,
  known,
  logLine,
  logOf,
  pod,
  sharedMesh,
  suite,
  tryAsk,
  within,
} from "./mesh-fixture.ts";

const needsLab = await labSandbox();
/** Short against the two minutes by which istiod dates certificates back: half of it is always over, and they are renewed every second. */
const SECRET_TTL = "10s";
const ROTATIONS = 6;

describe("certificates", suite(needsLab), () => {
  let client: LabPod;
  let server: LabPod;
  let strangers = 0;
  const mesh = sharedMesh({}, async (lab) => {
    await lab.namespace("shop", AMBIENT);
    [client, server] = await Promise.all([pod(lab, "a", "client"), pod(lab, "b", "server")]);
    await known(lab, client, server);
  });

  const refusals: readonly {
    readonly name: string;
    readonly subject: (lab: Lab) => Promise<{ readonly pod: string; readonly uid: string }>;
    readonly options: TokenOptions;
    readonly reason: RegExp;
  }[] = [
    {
      name: "an expired token",
      subject: (lab) => ztunnelPod(lab, "b"),
      options: { ttlSeconds: -60 },
      reason: /authentication failed.*reason="expired"/,
    },
    {
      name: "a token for another audience",
      subject: (lab) => ztunnelPod(lab, "b"),
      options: { audiences: ["kubernetes"] },
      reason: /authentication failed.*reason="wrong-audience"/,
    },
    {
      name: "the token of another node's ztunnel",
      subject: (lab) => ztunnelPod(lab, "a"),
      options: {},
      reason: /identity refused.*pod="ztunnel-a".*why="identity-not-on-node"/,
    },
    {
      name: "the token of a ztunnel pod that was replaced",
      subject: async (lab) => ({ ...(await ztunnelPod(lab, "b")), uid: "another" }),
      options: {},
      reason: /identity refused.*why="caller-pod-replaced"/,
    },
  ];
  for (const c of refusals)
    test(`${c.name} gets no certificate, and istiod says why; what is valid goes on`, async () => {
      await using _ = await echoLines(server);
      const restore = await putToken(mesh(), "b", await c.subject(mesh()), c.options);
      const name = `late-${++strangers}`;
      const late = await pod(mesh(), "b", name); // a new identity, so a new certificate is needed
      await logLine(mesh(), "istiod", undefined, c.reason);
      await logLine(mesh(), "ztunnel", "b", new RegExp(`identity\\t.*sa/${name}`));
      assert.equal(await tryAsk(client, server.ip), `server ${client.ip} hello`);
      assert.match(await state(mesh(), name), /^(Unavailable: |Initializing)/);
      await restore();
      await known(mesh(), late);
      await within(
        "the certificate is fetched after all",
        async () => (await state(mesh(), name)) === "Available",
        20_000,
      );
      assert.equal(await tryAsk(late, server.ip), `server ${late.ip} hello`);
    });

  test("a returning istiod refuses a proxy without a good token; the proxy serves what it knows", async () => {
    await using _ = await echoLines(server);
    const restore = await putToken(mesh(), "b", await ztunnelPod(mesh(), "b"), { ttlSeconds: -60 });
    const since = logOf(mesh(), "istiod").length;
    const sinceB = logOf(mesh(), "ztunnel", "b").length;
    await mesh().restart("istiod");
    const refused = /authentication failed\t.*reason="expired"/;
    await logLine(mesh(), "istiod", undefined, refused, since);
    await logLine(mesh(), "ztunnel", "b", /warn\txds\t.*UNAUTHENTICATED/, sinceB);
    assert.equal(await tryAsk(client, server.ip), `server ${client.ip} hello`);
    await restore();
    const late = await pod(mesh(), "a", "after-all");
    await known(mesh(), late); // both nodes are told
  });

  test("certificates rotate under load without a failed question", {
    timeout: 60_000,
  }, async () => {
    await using _ = await echoLines(server);
    mesh().mesh.setEnv("ztunnel", { SECRET_TTL });
    await Promise.all(["a", "b"].map((node) => mesh().restart("ztunnel", node)));
    await within("served again", async () => (await tryAsk(client, server.ip)) !== null);
    using open = await dial(client, server.ip, 8080);
    await open.ask("before");
    await using busy = await client.start(
      workload("client", { host: server.ip, port: 8080, intervalMs: 20, timeoutMs: 2_000 }),
    );
    const serials = { a: new Set<string>(), b: new Set<string>() };
    await within(
      `${ROTATIONS} rotations at each end`,
      async () => {
        for (const node of ["a", "b"] as const) {
          const { certificates } = await configDump(mesh(), node);
          const own = certificates.find((x) =>
            x.identity.endsWith(node === "a" ? "/sa/client" : "/sa/server"),
          );
          const [leaf] = own?.certChain ?? [];
          if (leaf !== undefined) serials[node].add(leaf.serialNumber);
        }
        return serials.a.size > ROTATIONS && serials.b.size > ROTATIONS;
      },
      30_000,
    );
    const events = clientEvents(busy.stdout);
    assert.deepEqual(
      events.filter((e) => e.event === "error"),
      [],
    );
    assert.ok(events.filter((e) => e.event === "answer").length > 30);
    // older than the certificate it was opened with
    assert.match(await open.ask("after"), /after$/);
  });
});

async function ztunnelPod(lab: Lab, node: string): Promise<{ pod: string; uid: string }> {
  const name = `ztunnel-${node}`;
  const object = await lab.cluster.get(RESOURCES.pods, "istio-system", name);
  return { pod: name, uid: object?.metadata.uid ?? "" };
}

/** Puts another token where the node's ztunnel reads its own. Returns what puts a good one back. */
async function putToken(
  lab: Lab,
  node: string,
  of: { readonly pod: string; readonly uid: string },
  options: TokenOptions,
): Promise<() => Promise<void>> {
  const file = join(lab.node(node).dir, "tokens", "istio-token");
  const write = async (who: typeof of, how: TokenOptions): Promise<void> => {
    const token = await lab.mesh.issueToken(
      {
        namespace: "istio-system",
        serviceAccount: "ztunnel",
        pod: { name: who.pod, uid: who.uid },
        node: { name: node },
      },
      how,
    );
    await writeFile(`${file}.new`, token, { mode: 0o600 });
    await rename(`${file}.new`, file);
  };
  await write(of, options);
  return async () => write(await ztunnelPod(lab, node), {});
}

async function state(lab: Lab, account: string): Promise<string> {
  const { certificates } = await configDump(lab, "b");
  return certificates.find((c) => c.identity.endsWith(`/sa/${account}`))?.state ?? "";
}

// The command line against a real mesh: what-if by an istiod beside the running one, and ztunnels' log levels.
import assert from "node:assert/strict";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { text } from "node:stream/consumers";
import { RESOURCES } from "#lib/kube/objects.ts";
import { PORT } from "#lib/net/ports.ts";
import type { Lab } from "../../lab/lab.ts";
import { run, type RunResult } from "../../lab/process.ts";
import { echoPod, labSandbox, testLab } from "../harness/lab.ts";
import { AMBIENT, pod, suite, within } from "./mesh-fixture.ts";

const needsLab = await labSandbox();
const PROGRAM = join(import.meta.dirname, "../../cli/bin/run.ts");

const DENY = `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: no-visitors, namespace: shop}
spec:
  selector: {matchLabels: {app: server}}
  action: DENY
  rules: [{from: [{source: {principals: [cluster.local/ns/shop/sa/visitor]}}]}]
`;
const STRICT = `apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: STRICT}}
`;
const JOIN = `apiVersion: v1
kind: Namespace
metadata: {name: street, labels: {istio.io/dataplane-mode: ambient}}
`;

describe("ambit against a running lab", suite(needsLab), () => {
  let lab: Lab;
  before(
    async () => {
      lab = await testLab({ control: true });
      await lab.mesh.startAll();
      await lab.namespace("shop", AMBIENT);
      await Promise.all([
        echoPod(lab, "b", "server", "shop"),
        pod(lab, "a", "client", { namespace: "shop" }),
        pod(lab, "a", "visitor", { namespace: "shop" }),
        pod(lab, "a", "stranger", { namespace: "street" }),
      ]);
      await within("ztunnels know the server and its policies' home", async () => {
        const { stdout } = await ambit([
          "explain",
          "connection",
          "visitor.shop",
          SERVER,
          "-o",
          "name",
        ]);
        return stdout === "explanation/allowed\n";
      });
    },
    { timeout: 60_000 },
  );
  after(async () => await lab?.[Symbol.asyncDispose](), { timeout: 30_000 });

  const SERVER = "pod/server.shop:8080";
  const ambit = (argv: readonly string[], input = ""): Promise<RunResult> =>
    run([process.execPath, PROGRAM, ...argv], {
      env: { AMBIT_LAB: lab.dir },
      allowFailure: true,
      input,
    });
  const whatIf = (source: string, manifest: string): Promise<RunResult> =>
    ambit(["explain", "connection", source, SERVER, "--what-if", "-"], manifest);

  test("what-if shows a denial before the policy is applied, and the mesh goes on without it", {
    timeout: 30_000,
  }, async () => {
    const denied = await whatIf("visitor.shop", DENY);
    assert.equal(denied.code, 3, denied.stderr);
    assert.match(
      denied.stdout,
      /^ALLOWED now, DENIED at D4 \(destination ztunnel on b\) with the change\n/,
    );
    assert.match(denied.stdout, /\n\+ D4 ✖ [^\n]*shop\/no-visitors/);
    const other = await whatIf("client.shop", DENY);
    assert.match(other.stdout, /^STILL ALLOWED\n/);
    assert.match(other.stdout, /nothing about this connection changes/);
    assert.deepEqual(await lab.cluster.list(RESOURCES.authorizationPolicies), []);
    assert.deepEqual((await ambit(["zc", "policy", "--no-headers"])).stdout, "");
  });

  test("what-if says what the mesh then does: applied, the answer is the same", {
    timeout: 30_000,
  }, async () => {
    const before = await whatIf("stranger.street", STRICT);
    assert.match(before.stdout, /^ALLOWED IN PLAINTEXT now, DENIED at D4/, before.stderr);
    assert.equal((await ambit(["apply", "-f", "-"], STRICT)).code, 0);
    const ask = ["explain", "connection", "stranger.street", SERVER];
    const real = await within("ztunnels deny it too", async () => {
      const ran = await ambit(ask);
      return ran.code === 3 ? ran : null;
    });
    const stages = (out: string): string[] =>
      out
        .split("\n")
        .filter((l) => /^[ +] +[SWD]\d /.test(l))
        .map((l) => l.slice(2));
    assert.deepEqual(stages(real.stdout), stages(before.stdout));
    assert.equal((await ambit(["delete", "-f", "-"], STRICT)).code, 0);
  });

  test("what-if takes enrolment as done", { timeout: 30_000 }, async () => {
    const ran = await whatIf("stranger.street", JOIN);
    assert.equal(ran.code, 0, ran.stderr);
    assert.match(ran.stdout, /\nassume the CNI agents capture street\/stranger\n/);
    assert.match(ran.stdout, /street\/stranger → \[HBONE\] shop\/server/);
  });

  test("previews made at once do not meet, and leave neither files nor processes", {
    timeout: 60_000,
  }, async () => {
    const [a, b] = await Promise.all([whatIf("visitor.shop", DENY), whatIf("client.shop", DENY)]);
    assert.deepEqual([a.code, b.code], [3, 0], a.stderr + b.stderr);
    assert.deepEqual(
      readdirSync(lab.dir).filter((n) => n.startsWith("preview-")),
      [],
    );
    const { stdout } = await run(["ps", "-eo", "args", "--no-headers"]);
    const istiods = stdout.split("\n").filter((l) => l.includes("istiod/main.ts"));
    assert.equal(istiods.length, 1, istiods.join("\n"));
  });

  test("zc log changes what a ztunnel logs and goes back; no other POST gets through", {
    timeout: 30_000,
  }, async () => {
    const level = async (): Promise<string> => {
      const part = lab.mesh.part("ztunnel", "a");
      return await text(await lab.mesh.request(part, PORT.ztunnelAdmin, "/logging", 2_000, "POST"));
    };
    const before = await level();
    const set = await ambit(["zc", "log", "client.shop", "--level", "debug,access:trace"]);
    assert.match(set.stdout, /\na +debug +access:trace\n$/, set.stderr);
    assert.equal(await level(), "current log level is access=trace,debug\n");
    assert.equal((await ambit(["zc", "log", "--reset"])).code, 0);
    assert.equal(await level(), before);
    assert.ok(existsSync(join(lab.dir, "control.sock")));
    const refused = await run([
      "curl",
      "-s",
      "--unix-socket",
      join(lab.dir, "control.sock"),
      "-X",
      "POST",
      "http://lab/nodes/a/ztunnel/quitquitquit",
    ]);
    assert.match(refused.stdout, /POST \/quitquitquit is not forwarded/);
  });
});

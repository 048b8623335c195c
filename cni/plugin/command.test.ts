// Each command against an agent that answers as told.
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type IncomingHttpHeaders, type Server } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { runCommand } from "./command.ts";

interface Seen {
  readonly url: string;
  readonly body: string;
  readonly headers: IncomingHttpHeaders;
}

/** An agent's sockets in a directory of their own. `null` as an answer: silence. */
class TestAgent implements AsyncDisposable {
  readonly dir = mkdtempSync(join(tmpdir(), "cni-plugin-"));
  readonly seen: Seen[] = [];
  answer: { status: number; body: string } = { status: 200, body: "" };
  readonly #servers: Server[] = [];

  async listen(socket: string): Promise<this> {
    const server = createServer((request, response) => {
      let body = "";
      request.on("data", (chunk: Buffer) => (body += chunk.toString()));
      request.on("end", () => {
        this.seen.push({ url: request.url ?? "", body, headers: request.headers });
        response.writeHead(this.answer.status).end(this.answer.body);
      });
    });
    await new Promise<void>((resolve) => server.listen(join(this.dir, socket), resolve));
    this.#servers.push(server);
    return this;
  }

  run(command: string, config: object = {}, env: Record<string, string> = {}): Promise<string> {
    const stdin = JSON.stringify({
      cniVersion: "1.1.0",
      name: "lab",
      cni_agent_run_dir: this.dir,
      plugin_log_level: "error",
      pod_namespace: "istio-system",
      ...config,
    });
    return runCommand(
      {
        CNI_COMMAND: command,
        CNI_CONTAINERID: "c-1",
        CNI_NETNS: "/run/netns/gone",
        CNI_IFNAME: "eth0",
        CNI_ARGS: "K8S_POD_NAME=cart;K8S_POD_NAMESPACE=shop;K8S_POD_UID=u-1",
        ...env,
      },
      () => stdin,
    ).then((done) => done.stdout);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.#servers) {
      server.closeAllConnections();
      await new Promise<void>((resolve) => void server.close(() => resolve()));
    }
    rmSync(this.dir, { recursive: true, force: true });
  }
}

const PREV = { cniVersion: "1.1.0", ips: [{ address: "10.0.0.2/24", gateway: "10.0.0.1" }] };

test("ADD posts the event and prints the result it was given", async () => {
  await using agent = await new TestAgent().listen("pluginevent.sock");
  const printed = await agent.run("ADD", { prevResult: PREV });
  assert.deepEqual(JSON.parse(printed), PREV);
  assert.equal(agent.seen.length, 1);
  const [{ url, body, headers }] = agent.seen as [Seen];
  assert.equal(url, "/cmdadd");
  assert.equal(
    body,
    '{"Netns":"/run/netns/gone","PodName":"cart","PodNamespace":"shop","IPs":[{"Interface":null,"Address":{"IP":"10.0.0.2","Mask":"////AA=="},"Gateway":"10.0.0.1"}]}',
  );
  assert.equal(headers["content-type"], "application/json");
  assert.equal(headers["ambit-pod-uid"], "u-1");
  assert.equal(headers["ambit-container-id"], "c-1");
});

test("ADD fails when the agent refuses, with status and reason", async () => {
  await using agent = await new TestAgent().listen("pluginevent.sock");
  agent.answer = { status: 500, body: "no ztunnel connection" };
  await assert.rejects(agent.run("ADD"), { code: 999, message: /500: no ztunnel connection/ });
});

test("ADD fails when no agent listens", async () => {
  await using agent = new TestAgent();
  await assert.rejects(agent.run("ADD"), { code: 999, message: /Cannot reach the node agent/ });
});

for (const c of [
  {
    name: "the agent's own pod",
    args: "K8S_POD_NAME=istio-cni-node-x;K8S_POD_NAMESPACE=istio-system",
    config: {},
  },
  { name: "no Kubernetes pod", args: "", config: {} },
  { name: "an excluded namespace", args: undefined, config: { exclude_namespaces: ["shop"] } },
  { name: "ambient mode off", args: undefined, config: { ambient_enabled: false } },
])
  test(`ADD passes without an agent: ${c.name}`, async () => {
    await using agent = new TestAgent();
    const env = c.args === undefined ? {} : { CNI_ARGS: c.args };
    assert.equal(await agent.run("ADD", c.config, env), '{"cniVersion":"1.1.0"}\n');
  });

test("a pod named like the agent in another namespace is asked about", async () => {
  await using agent = new TestAgent();
  const env = { CNI_ARGS: "K8S_POD_NAME=istio-cni-node-x;K8S_POD_NAMESPACE=shop" };
  await assert.rejects(agent.run("ADD", {}, env), { code: 999 });
});

test("DEL succeeds without agent, namespace or earlier result, again and again", async () => {
  await using agent = new TestAgent();
  assert.equal(await agent.run("DEL"), "");
  assert.equal(await agent.run("DEL", {}, { CNI_NETNS: "" }), "");
});

test("a namespace that is our own is refused after ADD, unless allowed", async () => {
  await using agent = await new TestAgent().listen("pluginevent.sock");
  const own = { CNI_NETNS: "/proc/self/ns/net" };
  await assert.rejects(agent.run("ADD", {}, own), { code: 8 });
  await assert.rejects(agent.run("DEL", {}, own), { code: 8 });
  const allowed = { ...own, CNI_NETNS_OVERRIDE: "true" };
  assert.equal(await agent.run("ADD", {}, allowed), '{"cniVersion":"1.1.0"}\n');
});

test("CHECK asks the agent; one that does not know the question is believed", async () => {
  await using agent = await new TestAgent().listen("pluginevent.sock");
  assert.equal(await agent.run("CHECK"), "");
  assert.equal(agent.seen[0]?.url, "/cmdcheck");
  agent.answer = { status: 404, body: "404 page not found" };
  assert.equal(await agent.run("CHECK"), "");
  agent.answer = { status: 500, body: "rules are missing" };
  await assert.rejects(agent.run("CHECK"), { code: 999, message: /rules are missing/ });
  await assert.rejects(agent.run("CHECK", { cniVersion: "0.3.1" }), { code: 1 });
});

test("STATUS succeeds without the agent: a runtime that is not ready could not start the agent", async () => {
  await using agent = new TestAgent();
  assert.equal(await agent.run("STATUS"), "");
  await assert.rejects(agent.run("STATUS", { cniVersion: "1.0.0" }), { code: 1 });
});

test("GC passes on what is still attached", async () => {
  await using agent = await new TestAgent().listen("pluginevent.sock");
  const validAttachments = [{ containerID: "c-9", ifname: "eth0" }];
  assert.equal(await agent.run("GC", { "cni.dev/valid-attachments": validAttachments }), "");
  assert.deepEqual(JSON.parse(agent.seen[0]?.body ?? ""), { name: "lab", validAttachments });
  await assert.rejects(agent.run("GC", { cniVersion: "1.0.0" }), { code: 1 });
  agent.answer = { status: 500, body: "no" };
  assert.equal(await agent.run("GC"), "");
  await using nobody = new TestAgent();
  assert.equal(await nobody.run("GC"), "");
});

test("VERSION reads no input", async () => {
  const done = await runCommand({ CNI_COMMAND: "VERSION" }, () => assert.fail("read"));
  assert.deepEqual(JSON.parse(done.stdout), {
    cniVersion: "1.1.0",
    supportedVersions: ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
  });
});

test("log lines reach the agent and the file, as texts that are JSON objects", async () => {
  await using agent = await new TestAgent().listen("pluginevent.sock");
  await agent.listen("log.sock");
  agent.answer = { status: 500, body: "no" };
  await assert.rejects(agent.run("ADD"));
  const sent = agent.seen.find((s) => s.url === "/log");
  const [line = ""] = JSON.parse(sent?.body ?? "[]") as string[];
  const entry = JSON.parse(line) as Record<string, unknown>;
  assert.equal(entry["level"], "error");
  assert.equal(entry["pod"], "shop/cart");
  assert.equal(readFileSync(join(agent.dir, "istio-cni.log"), "utf8").trim(), line);
});

test("the executable: one JSON value on standard output, status 1 on error", () => {
  const main = join(import.meta.dirname, "main.ts");
  const run = (env: Record<string, string>, input = "") =>
    spawnSync(process.execPath, [main], { env, input, encoding: "utf8" });
  const bare = run({});
  assert.deepEqual([bare.status, bare.stdout], [0, ""]);
  assert.match(bare.stderr, /CNI plugin/);
  const bad = run({ CNI_COMMAND: "ADD" });
  assert.equal(bad.status, 1);
  assert.deepEqual(JSON.parse(bad.stdout), {
    code: 4,
    msg: "Required environment variables are missing: CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME",
  });
  const malformed = run(
    { CNI_COMMAND: "DEL", CNI_CONTAINERID: "c", CNI_IFNAME: "eth0" },
    "not json",
  );
  assert.equal((JSON.parse(malformed.stdout) as { code: number }).code, 6);
});

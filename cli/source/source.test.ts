// Reading a running mesh: several ztunnels, some of which do not answer.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import type { RequestListener } from "node:http";
import { join } from "node:path";
import { test } from "node:test";
import { dumpTables } from "#lib/model/config-dump.ts";
import { ambit } from "../testdata/run-command.ts";
import { testLab } from "../testdata/test-lab.ts";
import { parseConfigDump } from "./config-dump.ts";
import { tablesFromDumps } from "./dump-tables.ts";
import { parseJson } from "./json.ts";
import { gather, type MeshSource } from "./mesh-source.ts";
import { splitLines } from "./ndjson.ts";

const DATA = join(import.meta.dirname, "..", "testdata");
const DUMP = readFileSync(join(DATA, "config-dump.json"), "utf8");
const TUNNELS = readFileSync(join(DATA, "tunnels.json"), "utf8");
const EVENTS = readFileSync(join(DATA, "events.ndjson"), "utf8");

test("every ztunnel of a lab is asked through the control socket", async () => {
  const seen: string[] = [];
  await using lab = await testLab(["a", "b"], (request, response) => {
    seen.push(request.url ?? "");
    response.end(DUMP);
  });
  const ran = await lab.run("zc workload -n shop -o wide");
  assert.equal(ran.code, 0, ran.stderr);
  assert.deepEqual(seen.sort(), ["/nodes/a/ztunnel/config_dump", "/nodes/b/ztunnel/config_dump"]);
  assert.match(ran.stdout, / a,b\n/);
});

test("a ztunnel that fails makes the answer partial: meta in JSON, one warning on stderr, exit 0", async () => {
  await using lab = await testLab(["a", "b"], brokenOn("b"));
  const ran = await lab.run("tunnels -o json");
  assert.equal(ran.code, 0);
  const { meta } = JSON.parse(ran.stdout) as {
    meta: { partial: { node: string; error: string }[] };
  };
  assert.deepEqual(meta.partial, [{ node: "b", error: "HTTP 502: ztunnel is down" }]);
  assert.equal(ran.stderr, "warning: 1 node(s) did not answer: b (HTTP 502: ztunnel is down)\n");
});

test("a ztunnel that hangs is given up after --timeout", { timeout: 10_000 }, async () => {
  await using lab = await testLab(["a", "b"], (request, response) => {
    if (request.url?.includes("/a/") === true) response.end(TUNNELS);
  });
  const ran = await lab.run("tunnels --timeout 200ms -o json");
  assert.equal(ran.code, 0);
  assert.match(ran.stderr, /b \(no answer within 200 ms\)/);
});

test("no answer at all is exit 6 with the reason of each node", async () => {
  await using down = await testLab();
  const none = await down.run("zc workload");
  assert.equal(none.code, 6);
  assert.match(none.stderr, /a: The lab at .* does not answer: ENOENT/);
  await using broken = await testLab(["a"], brokenOn("a"));
  const failed = await broken.run("zc workload");
  assert.equal(failed.code, 6);
  assert.match(failed.stderr, /a: HTTP 502: ztunnel is down/);
});

test("--node asks one, and an unknown one is named with those there are", async () => {
  await using lab = await testLab(["a", "b"], brokenOn("b"));
  assert.equal((await lab.run("zc policy --node a")).stderr, "");
  assert.match((await lab.run("zc policy --node c")).stderr, /nodes: a, b/);
});

test("watch merges the event streams of all ztunnels and names the node", {
  timeout: 10_000,
}, async () => {
  await using lab = await testLab(["a", "b"], ({ url }, response) => {
    if (url?.endsWith("/config_dump") === true) response.end(DUMP);
    else response.write(EVENTS);
  });
  const ran = await lab.run("tunnels watch --since 1h --limit 8 -o json");
  const nodes = ran.stdout
    .trim()
    .split("\n")
    .map((l) => (JSON.parse(l) as { node: string }).node);
  assert.deepEqual(nodes.sort(), ["a", "a", "a", "a", "b", "b", "b", "b"]);
});

test("watch shows a connection between captured pods once, and from both ends when asked", async () => {
  const peer = (pod: string, address: string): object => ({ namespace: "shop", pod, address });
  const event = (direction: string, kind: string, from: string): string =>
    `${JSON.stringify({ seq: 1, time: "t", event: kind, direction, source: peer(from, "10.0.0.1:1"), destination: peer("s", "10.0.0.2:80") })}\n`;
  const stdin = [
    event("outbound", "open", "client"),
    event("inbound", "open", "client"),
    event("inbound", "open", "waypoint"), // reported by no ztunnel of its own
    event("inbound", "close", "client"),
    event("inbound", "deny", "client"),
  ].join("");
  const kinds = async (flags: string): Promise<string[]> =>
    (await ambit(`tunnels watch -f - -o json ${flags}`, { stdin })).stdout
      .trim()
      .split("\n")
      .map((l) => JSON.parse(l) as { event: string; direction: string })
      .map((e) => `${e.direction} ${e.event}`);
  assert.deepEqual(await kinds(""), ["outbound open", "inbound open", "inbound deny"]);
  assert.equal((await kinds("--direction inbound")).length, 4);
});

test("watch without --since asks for what happens from now on, and ends with 130 when interrupted", {
  timeout: 10_000,
}, async () => {
  const stop = new AbortController();
  await using lab = await testLab(["a"], ({ url }, response) => {
    if (url?.endsWith("/config_dump") === true) return void response.end(DUMP);
    assert.equal(url, "/nodes/a/ztunnel/ambit/events");
    response.flushHeaders();
    stop.abort();
  });
  const ran = await lab.run("tunnels watch --no-headers", { signal: stop.signal });
  assert.deepEqual([ran.code, ran.stdout], [130, ""]);
});

test("at most eight ztunnels are asked at a time", async () => {
  let now = 0;
  let most = 0;
  const source: MeshSource = {
    name: "a test",
    confidence: "live",
    statusCommand: "ambit lab status",
    nodes: async () => Array.from({ length: 30 }, (_, i) => `n${i}`),
    async fetch(node) {
      most = Math.max(most, ++now);
      await new Promise((resolve) => setImmediate(resolve));
      now--;
      return parseJson(JSON.stringify(node), node);
    },
    // oxlint-disable-next-line require-yield -- no events here
    async *lines() {},
  };
  const { signal } = new AbortController();
  const got = await gather(source, "/config_dump", (j) => j.text(), { timeoutMs: 1_000, signal });
  assert.equal(got.answers.length, 30);
  assert.equal(most, 8);
});

test("a config dump read back makes the tables it was made of", () => {
  const tables = tablesFromDumps([parseConfigDump(parseJson(DUMP, "dump"))]);
  const once = dumpTables(tables);
  const again = tablesFromDumps([parseConfigDump(parseJson(JSON.stringify(once), "again"))]);
  assert.deepEqual(dumpTables(again), once);
  assert.equal(once.workloads.length, 6);
});

test("a policy matcher that is not understood is an error, not a guess", () => {
  const dump = JSON.parse(DUMP) as { policies: { rules: unknown }[] };
  dump.policies[0]!.rules = [[[{ principals: [{ Regex: ".*" }] }]]];
  const parsed = parseConfigDump(parseJson(JSON.stringify(dump), "dump"));
  assert.throws(
    () => tablesFromDumps([parsed]),
    /policy shop\/server-viewer\.rules\[0\].*not a string matcher/,
  );
});

test("lines survive any cut of the stream", async () => {
  const bytes = new TextEncoder().encode('{"a":"ü"}\n\n{"b":1}');
  for (let size = 1; size <= bytes.length; size++) {
    const lines: string[] = [];
    for await (const line of splitLines(cut(bytes, size))) lines.push(line);
    assert.deepEqual(lines, ['{"a":"ü"}', '{"b":1}'], `chunks of ${size}`);
  }
});

test("explain reads both ends in every spelling", async () => {
  const explain = async (ends: string): Promise<string> => {
    const ran = await ambit(`explain connection ${ends} -f %mesh.json -o name`);
    return ran.code === 0 || ran.code === 3
      ? `${ran.code} ${ran.stdout.trim()}`
      : `${ran.code} ${ran.stderr}`;
  };
  for (const ends of [
    "pod/client svc/server -n shop",
    "client.shop server.shop:80",
    "10.244.1.2 10.96.0.10:80",
    "client.shop server.shop.svc.cluster.local:80",
    "client.shop pod/server-v1:8080",
  ])
    assert.equal(await explain(ends), "0 explanation/allowed", ends);
  assert.equal(await explain("legacy.shop pod/server-v1:8080"), "3 explanation/denied");
  assert.equal(await explain("client.shop 192.0.2.1:443"), "0 explanation/plaintext");
  assert.equal(await explain("client.shop svc/server:81"), "3 explanation/unroutable");
  assert.match(
    await explain("client.shop svc/srver"),
    /^4 .*No service "srver"[\s\S]*did you mean server\?/,
  );
  assert.match(await explain("client.shop pod/server-v1"), /^2 .*Which port of shop\/server-v1\?/);
  assert.match(await explain("svc/server.shop svc/server"), /^2 .*starts at a pod/);
  assert.match(
    await explain("client.shop svc/server --as-identity nobody"),
    /^2 .*Not an identity/,
  );
});

test("explain names the deciding policy, the nearest miss and the fix", async () => {
  const ran = await ambit(
    "explain connection client.shop svc/server --as-identity cluster.local/ns/shop/sa/admin -f %mesh.json",
  );
  assert.equal(ran.code, 3);
  assert.match(ran.stdout, /^DENIED at D4 \(destination ztunnel on a\)\n/);
  assert.match(
    ran.stdout,
    /nearest miss: rule 1 of shop\/server-viewer wants principals cluster\.local\/ns\/shop\/sa\/client/,
  );
  assert.match(ran.stdout, /fix +add principal cluster\.local\/ns\/shop\/sa\/admin/);
  assert.match(ran.stderr, /no workload runs as/);
});

function brokenOn(node: string): RequestListener {
  return (request, response) => {
    if (request.url?.includes(`/${node}/`) === true) {
      response.statusCode = 502;
      response.end("ztunnel is down\n");
    } else response.end(request.url?.endsWith("tunnels") === true ? TUNNELS : DUMP);
  };
}

async function* cut(bytes: Uint8Array, size: number): AsyncIterable<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

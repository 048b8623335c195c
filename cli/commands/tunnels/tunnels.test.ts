import assert from "node:assert/strict";
import { test } from "node:test";
import { ambit } from "../../testdata/run-command.ts";

test("each connection is one row, with the policy only the other end knew", async () => {
  const { stdout } = await ambit("tunnels -f %tunnels.json");
  assert.equal(
    stdout,
    [
      "SOURCE        DESTINATION           VIA             SECURITY   STREAMS   RX/s    TX/s   VERDICT                AGE",
      "shop/client   shop/server-v2:8080   direct          mTLS       2         411B    38B    allowed                5m",
      "shop/client   svc/cart:8080         edge/waypoint   mTLS       1         1.2Ki   96Ki   allowed                5m",
      "shop/legacy   shop/server-v1:8080   direct          PLAIN      0         0B      0B     denied server-viewer   3s",
      "",
    ].join("\n"),
  );
  const wide = await ambit("tunnels list -f %tunnels.json -o wide --to pod/server-v2");
  assert.match(
    wide.stdout,
    /a +b +spiffe:\/\/\S+client +spiffe:\/\/\S+server +shop\/server-viewer +t1\n/,
  );
});

for (const [flags, want] of [
  ["--verdict denied", ["a-2"]],
  ["--from pod/legacy", ["a-2"]],
  ["--to svc/cart", ["a-3"]],
  ["--identity *sa/client", ["a-1", "a-3"]],
  ["--direction inbound", ["b-1", "a-2"]],
  ["--stale 1m", ["a-1", "a-3"]],
  ["-n edge", []],
  ["-A -n edge", ["a-1", "a-3", "a-2"]],
] as const)
  test(`tunnels ${flags}`, async () => {
    const { stdout } = await ambit(`tunnels -f %tunnels.json ${flags} -o name`);
    assert.deepEqual(
      stdout.split("\n").filter(Boolean),
      want.map((id) => `tunnel/${id}`),
    );
  });

test("JSON holds the same rows as the table, in the contract's shape", async () => {
  const { stdout } = await ambit("tunnels -f %tunnels.json --json");
  const list = JSON.parse(stdout) as { apiVersion: string; kind: string; items: { id: string }[] };
  assert.equal(list.apiVersion, "ambit/v1");
  assert.equal(list.kind, "TunnelList");
  assert.deepEqual(
    list.items.map((i) => i.id),
    ["a-1", "a-3", "a-2"],
  );
  // The command's own output is a file it reads.
  const again = await ambit("tunnels -f -", { stdin: stdout });
  assert.equal(again.stdout, (await ambit("tunnels -f %tunnels.json")).stdout);
});

test("events print one per line, and lost ones are told", async () => {
  const { stdout, code } = await ambit("tunnels watch -f %events.ndjson", {});
  assert.equal(code, 0);
  const lines = stdout.trim().split("\n");
  assert.match(
    lines[0] ?? "",
    /^TIME +EVENT +SOURCE +DESTINATION +VIA +VERDICT +REASON +BYTES +DURATION$/,
  );
  assert.match(
    lines[2] ?? "",
    /deny +shop\/legacy +shop\/server-v1:8080 +TCP +denied server-viewer +policy_no_allow_match/,
  );
  assert.match(lines[3] ?? "", /12 events were dropped/);
  assert.match(lines[4] ?? "", /close .* 79Ki\/8\.9Ki +60s$/);
});

test("events filter, stop at a limit, and come as NDJSON", async () => {
  const deny = await ambit("tunnels watch -f %events.ndjson --event deny,error -o json");
  const kinds = deny.stdout
    .trim()
    .split("\n")
    .map((l) => (JSON.parse(l) as { event: string }).event);
  assert.deepEqual(kinds, ["deny", "lost"]);
  const one = await ambit("tunnels watch -f %events.ndjson --limit 1 --no-headers");
  assert.equal(one.stdout.trim().split("\n").length, 1);
});

test("events come as YAML documents and as names", async () => {
  const yaml = await ambit("tunnels watch -f - -o yaml --limit 1", {
    stdin: '{"seq":7,"time":"t","event":"lost","lost":12}\n',
  });
  assert.match(yaml.stdout, /^---\nnode: stdin\nseq: 7\n/);
  const names = await ambit("tunnels watch -f - -o name", {
    stdin: '{"seq":7,"time":"t","event":"lost","lost":12}\n',
  });
  assert.equal(names.stdout, "event/stdin.7\n");
});

test("the client's end of a denial names the policy too", async () => {
  const peer = { namespace: "shop", pod: "x", address: "10.0.0.1:1" };
  const policy = { namespace: "shop", name: "p" };
  const event = { seq: 1, time: "t", event: "error", source: peer, destination: peer, policy };
  const ran = await ambit("tunnels watch -f -", { stdin: `${JSON.stringify(event)}\n` });
  assert.match(ran.stdout, /error .* denied p /);
});

test("a filter of an unknown kind or value is a usage error that names the choices", async () => {
  const kind = await ambit("tunnels -f %tunnels.json --from job/x");
  assert.equal(kind.code, 2);
  assert.match(kind.stderr, /ns\/x, pod\/x, svc\/x/);
  const verdict = await ambit("tunnels -f %tunnels.json --verdict maybe");
  assert.equal(verdict.code, 2);
  assert.match(verdict.stderr, /allowed, denied, pending/);
});

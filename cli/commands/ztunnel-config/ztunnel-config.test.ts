import assert from "node:assert/strict";
import { test } from "node:test";
import { ambit } from "../../testdata/run-command.ts";

async function json(line: string): Promise<{ kind: string; items: Record<string, unknown>[] }> {
  const ran = await ambit(`${line} -o json`);
  assert.equal(ran.code, 0, ran.stderr);
  return JSON.parse(ran.stdout) as { kind: string; items: Record<string, unknown>[] };
}

test("workloads have istioctl's columns, order and padding", async () => {
  const { stdout } = await ambit("zc workload -f %mesh.json -n shop");
  assert.equal(
    stdout,
    [
      "NAMESPACE POD NAME  ADDRESS                  NODE WAYPOINT PROTOCOL",
      "shop      client    10.244.1.2               a    None     HBONE",
      "shop      legacy    10.244.2.9               b    None     TCP",
      "shop      server-v1 10.244.1.3,fd00:244:1::3 a    None     HBONE",
      "shop      server-v2 10.244.2.3               b    None     HBONE",
      "",
    ].join("\n"),
  );
});

test("a waypoint is named by its service, whether referred to by address or by host name", async () => {
  assert.match((await ambit("zc workload -f %mesh.json cart")).stdout, / waypoint HBONE/);
  assert.match((await ambit("zc service -f %mesh.json")).stdout, /cart .* waypoint 1\/1/);
});

test("services count healthy endpoints over all", async () => {
  const { stdout } = await ambit("zc service -f %mesh.json --service-namespace shop");
  assert.equal(
    stdout,
    "NAMESPACE SERVICE NAME SERVICE VIP WAYPOINT ENDPOINTS\nshop      server       10.96.0.10  None     1/2\n",
  );
});

test("policies have istioctl's columns", async () => {
  const { stdout } = await ambit("zc policy -f %mesh.json");
  assert.equal(
    stdout,
    [
      "NAMESPACE POLICY NAME   ACTION SCOPE",
      "edge      no-admin      Deny   Namespace",
      "shop      server-viewer Allow  WorkloadSelector",
      "",
    ].join("\n"),
  );
});

test("certificates name the place in the chain, the state, the validity now, and a hexadecimal serial", async () => {
  const { stdout } = await ambit("zc certificate -f %mesh.json --no-headers");
  const rows = stdout
    .trim()
    .split("\n")
    .map((line) => line.split(/ {5,}/));
  assert.deepEqual(rows[0], [
    "spiffe://cluster.local/ns/shop/sa/client",
    "Leaf",
    "Available",
    "true",
    "112210f47de98115",
    "2026-06-02T10:02:00Z",
    "2026-06-01T10:00:00Z",
  ]);
  assert.deepEqual(
    rows.map((r) => [r[1], r[2], r[3]].join(" ")),
    [
      "Leaf Available true",
      "Intermediate Available true",
      "Root Available true",
      "Leaf Available false",
      "Root Available true",
      "NA Initializing false",
      "NA Unavailable false",
    ],
  );
});

test("why a certificate is unavailable is one -o wide away", async () => {
  const { stdout } = await ambit("zc cert -f %mesh.json -o wide");
  assert.match(stdout, /Unavailable .* b +istiod refused: no pod of this identity on node b\n/);
});

test("an old dump's maps and roots inside the chain are understood", async () => {
  assert.match(
    (await ambit("zc workload -f %legacy-dump.json")).stdout,
    /old +w +10\.0\.0\.1 n +wp +HBONE/,
  );
  assert.match((await ambit("zc certs -f %legacy-dump.json")).stdout, /Leaf[^\n]*\n[^\n]*Root/);
});

test("connections show names, or addresses with --raw", async () => {
  const named = await ambit("zc connections client.shop -f %mesh.json --no-headers");
  assert.equal(
    named.stdout,
    "client.shop Outbound client.shop:40112 server-v2.shop:15008 server.shop.svc.cluster.local:80 HBONE\n",
  );
  const raw = await ambit("zc connections pod/client.shop -f %mesh.json --no-headers --raw");
  assert.equal(
    raw.stdout,
    "client.shop Outbound 10.244.1.2:40112 10.244.2.3:15008 10.96.0.10:80 HBONE\n",
  );
});

test("--direction and --raw hold for JSON too, which names node and direction", async () => {
  const { items } = await json("zc connections -f %mesh.json --direction inbound --raw");
  assert.deepEqual(
    items.map((i) => [i["node"], i["direction"], i["src"]]),
    [
      ["a", "inbound", "10.244.2.9:51000"],
      ["b", "inbound", "10.244.1.2:33100"],
    ],
  );
  assert.deepEqual(items[0]?.["names"], {
    local: "10.244.1.3:8080",
    remote: "10.244.2.9:51000",
    remoteTarget: "",
  });
});

test("filters combine, and a filter that matches nothing says so on stderr", async () => {
  const some = await ambit(
    "zc workload -f %mesh.json --workload-node b --address 10.244.2.3 -o name",
  );
  assert.equal(some.stdout, "workload/server-v2.shop\n");
  const none = await ambit("zc workload -f %mesh.json -n nowhere");
  assert.deepEqual([none.code, none.stdout, none.stderr], [0, "", "no workloads match\n"]);
});

test("an unknown pod fails with its near name, an unknown node with the nodes there are", async () => {
  const pod = await ambit("zc connections clint -f %mesh.json");
  assert.equal(pod.code, 4);
  assert.match(pod.stderr, /No workload "clint"[\s\S]*did you mean client\?/);
  const node = await ambit("zc workload --node z -f %mesh.json");
  assert.equal(node.code, 4);
  assert.match(node.stderr, /nodes: a, b/);
});

test("--node asks one ztunnel only", async () => {
  const { items } = await json("zc certificate -f %mesh.json --node b");
  assert.deepEqual(
    items.map((i) => i["identity"]),
    ["spiffe://cluster.local/ns/shop/sa/default", "spiffe://cluster.local/ns/edge/sa/cart"],
  );
});

test("JSON items are the ztunnel's own records, each once", async () => {
  const { kind, items } = await json("zc workload -f %mesh.json");
  assert.equal(kind, "WorkloadList");
  assert.equal(items.length, 6);
  assert.ok(items.every((i) => typeof i["uid"] === "string" && "trustDomain" in i));
});

test("`all -o json` of one mesh is a file that all read commands take", async () => {
  const all = await ambit("zc all -f %mesh.json -o json");
  const again = await ambit("zc all -f - --with-headers", { stdin: all.stdout });
  const direct = await ambit("zc all -f %mesh.json --with-headers");
  assert.equal(again.stdout, direct.stdout);
  const titles = [...direct.stdout.matchAll(/^------ (.+) INFO ------$/gm)].map((m) => m[1]);
  assert.deepEqual(titles, ["WORKLOAD", "SERVICE", "POLICY", "SECRET", "CONNECTIONS"]);
});

for (const [name, stdin, wanted] of [
  ["no JSON", "{", /stdin is no JSON/],
  ["no dump", "{}", /stdin is not a ztunnel config dump/],
  ["a list", "[]", /stdin: expected an object/],
  ["wrong kinds", '{"workloads":[{"uid":7}]}', /stdin\.workloads\[0\]\.uid: expected text, got 7/],
] as const)
  test(`a file that is ${name} is refused by name`, async () => {
    const ran = await ambit("zc workload -f -", { stdin });
    assert.equal(ran.code, 1);
    assert.equal(ran.stdout, "");
    assert.match(ran.stderr, wanted);
  });

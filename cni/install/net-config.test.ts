// What becomes of a network configuration when our entry goes in and out, also of one that is none.
import assert from "node:assert/strict";
import { test } from "node:test";
import { holdsEntry, otherPlugins, parseNetConfig, withEntry, withoutEntry } from "./net-config.ts";

const ENTRY = { name: "istio-cni", type: "istio-cni", exclude_namespaces: ["kube-system"] };
const LIST = {
  cniVersion: "1.0.0",
  name: "kindnet",
  disableCheck: true,
  plugins: [{ type: "ptp", ipam: { type: "host-local" } }, { type: "portmap" }],
};

test("our entry goes to the end; everything else stays as it was and where it was", () => {
  const config = parseNetConfig("10-kindnet.conflist", JSON.stringify(LIST));
  assert.ok(config);
  const text = withEntry(config, ENTRY);
  assert.equal(
    text,
    `${JSON.stringify({ ...LIST, plugins: [...LIST.plugins, ENTRY] }, null, 2)}\n`,
  );
  const again = parseNetConfig("10-kindnet.conflist", text);
  assert.ok(again && holdsEntry(again, ENTRY));
  assert.equal(withEntry(again, ENTRY), text, "twice is once");
  assert.equal(withoutEntry(again), `${JSON.stringify(LIST, null, 2)}\n`);
});

test("an entry with other settings is replaced, copies of it go", () => {
  const old = { type: "istio-cni", name: "istio-cni" };
  const text = JSON.stringify({ ...LIST, plugins: [old, ...LIST.plugins, old] });
  const config = parseNetConfig("x.conflist", text);
  assert.ok(config && !holdsEntry(config, ENTRY));
  const { plugins } = JSON.parse(withEntry(config, ENTRY)) as { plugins: unknown[] };
  assert.deepEqual(plugins, [...LIST.plugins, ENTRY]);
});

test("a single plugin becomes a list", () => {
  const single = { cniVersion: "0.4.0", name: "mynet", type: "bridge", bridge: "cni0" };
  const config = parseNetConfig("10-bridge.conf", JSON.stringify(single));
  assert.ok(config);
  assert.deepEqual(JSON.parse(withEntry(config, ENTRY)), {
    name: "k8s-pod-network",
    cniVersion: "0.3.1",
    plugins: [{ name: "mynet", type: "bridge", bridge: "cni0" }, ENTRY],
  });
});

test("nothing but our entry is no network", () => {
  const config = parseNetConfig("x.conflist", JSON.stringify({ name: "n", plugins: [ENTRY] }));
  assert.ok(config);
  assert.equal(otherPlugins(config).length, 0);
  assert.equal(withoutEntry(config), null);
});

for (const [name, text] of [
  ["x.conflist", ""],
  ["x.conflist", "{"],
  ["x.conflist", "null"],
  ["x.conflist", "[]"],
  ["x.conflist", '"text"'],
  ["x.conflist", '{"plugins":[{"type":"a"}]}'],
  ["x.conflist", '{"name":"","plugins":[{"type":"a"}]}'],
  ["x.conflist", '{"name":"n"}'],
  ["x.conflist", '{"name":"n","plugins":[]}'],
  ["x.conflist", '{"name":"n","plugins":{}}'],
  ["x.conflist", '{"name":"n","plugins":[{}]}'],
  ["x.conflist", '{"name":"n","plugins":[null]}'],
  ["x.conflist", '{"name":"n","plugins":[{"type":""}]}'],
  ["x.conflist", '{"name":"n","plugins":[{"type":5}]}'],
  ["x.conf", "{}"],
  ["x.conf", '{"name":"n","plugins":[{"type":"a"}]}'],
  ["x.conf", '{"type":["a"]}'],
  ["x.conflist", `{"name":"n","plugins":[{"type":"a"}],"x":"${"x".repeat(1 << 20)}"}`],
] as const)
  test(`no configuration: ${name} ${text.slice(0, 40)}`, () =>
    assert.equal(parseNetConfig(name, text), null));

test("any bytes: taken or refused, never a throw, and what is taken stays a configuration", () => {
  const seeds = [JSON.stringify(LIST), JSON.stringify({ ...LIST, plugins: [ENTRY] }), "{}"];
  let random = 1;
  const next = (below: number): number => {
    random = (Math.imul(random, 1_103_515_245) + 12_345) >>> 0;
    return (random >>> 8) % below;
  };
  let taken = 0;
  for (let i = 0; i < 5_000; i++) {
    const text = (seeds[next(seeds.length)] ?? "").split("");
    for (let edits = next(4); edits >= 0; edits--)
      text.splice(next(text.length), next(3), '{}[]":,\\0a \u{1f600}n'[next(14)] ?? "");
    const name = next(2) === 0 ? "x.conflist" : "x.conf";
    const config = parseNetConfig(name, text.join(""));
    if (config === null) continue;
    taken++;
    const list = parseNetConfig("x.conflist", withEntry(config, ENTRY));
    assert.ok(list && holdsEntry(list, ENTRY));
    const types = (plugins: readonly { readonly type: string }[]) => plugins.map((p) => p.type);
    assert.deepEqual(types(otherPlugins(list)), types(otherPlugins(config)));
    const back = withoutEntry(list);
    if (back !== null) assert.ok(parseNetConfig("x.conflist", back));
  }
  assert.ok(taken > 100, `${taken} taken`);
});

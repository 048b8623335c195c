// What a runtime may hand over: environment, CNI_ARGS, configuration, earlier results.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseConfig } from "./config.ts";
import { parseArgs, parseCall } from "./environment.ts";
import { addResult, resultIps } from "./result.ts";

const ADD = {
  CNI_COMMAND: "ADD",
  CNI_CONTAINERID: "c-1",
  CNI_NETNS: "/run/netns/x",
  CNI_IFNAME: "eth0",
};

for (const c of [
  { name: "unknown command", env: { ...ADD, CNI_COMMAND: "DANCE" } },
  { name: "ADD without a namespace", env: { ...ADD, CNI_NETNS: "" } },
  { name: "ADD without a container", env: { ...ADD, CNI_CONTAINERID: undefined } },
  { name: "ADD without an interface", env: { ...ADD, CNI_IFNAME: "" } },
  { name: "DEL without a container", env: { CNI_COMMAND: "DEL", CNI_IFNAME: "eth0" } },
  { name: "CHECK without a namespace", env: { ...ADD, CNI_COMMAND: "CHECK", CNI_NETNS: "" } },
  { name: "a container id with a slash", env: { ...ADD, CNI_CONTAINERID: "a/b" } },
  { name: "an interface name with a colon", env: { ...ADD, CNI_IFNAME: "eth0:1" } },
  { name: "an interface name of 16", env: { ...ADD, CNI_IFNAME: "e".repeat(16) } },
  { name: "an interface named ..", env: { ...ADD, CNI_IFNAME: ".." } },
  { name: "arguments without =", env: { ...ADD, CNI_ARGS: "K8S_POD_NAME" } },
])
  test(`code 4: ${c.name}`, () => assert.throws(() => parseCall(c.env), { code: 4 }));

test("DEL, GC and STATUS need no namespace, GC and STATUS nothing", () => {
  const { CNI_NETNS: _, ...rest } = ADD;
  assert.equal(parseCall({ ...rest, CNI_COMMAND: "DEL" }).netns, "");
  for (const CNI_COMMAND of ["GC", "STATUS", "VERSION"])
    assert.equal(parseCall({ CNI_COMMAND }).command, CNI_COMMAND);
});

test("CNI_ARGS: pairs with exactly one =, unknown keys only when told to ignore them", () => {
  const none = { podName: "", podNamespace: "", podUid: "" };
  assert.deepEqual(parseArgs(""), none);
  assert.deepEqual(parseArgs("K8S_POD_NAME=a;K8S_POD_NAMESPACE=b;K8S_POD_UID=c"), {
    podName: "a",
    podNamespace: "b",
    podUid: "c",
  });
  assert.deepEqual(parseArgs("IgnoreUnknown=1;X=y"), none);
  assert.deepEqual(parseArgs("X=y;IgnoreUnknown=true"), none);
  for (const bad of ["X=y", "X=y;IgnoreUnknown=0", "K8S_POD_NAME=a=b", "a", "K8S_POD_NAME=a;"])
    assert.throws(() => parseArgs(bad), { code: 4 }, bad);
});

for (const c of [
  { name: "no JSON", text: "{", code: 6 },
  { name: "a list", text: "[]", code: 6 },
  { name: "no name", text: "{}", code: 7 },
  { name: "an empty name", text: '{"name":""}', code: 7 },
  { name: "a name with a slash", text: '{"name":"a/b"}', code: 7 },
  { name: "an unknown version", text: '{"name":"a","cniVersion":"2.0.0"}', code: 1 },
  { name: "a version that is a number", text: '{"name":"a","cniVersion":1}', code: 1 },
  {
    name: "prevResult of another format",
    text: '{"name":"a","cniVersion":"1.0.0","prevResult":{"cniVersion":"0.4.0"}}',
    code: 1,
  },
  { name: "prevResult that is a list", text: '{"name":"a","prevResult":[]}', code: 6 },
  { name: "excluded namespaces as text", text: '{"name":"a","exclude_namespaces":"x"}', code: 7 },
])
  test(`code ${c.code}: ${c.name}`, () =>
    assert.throws(() => parseConfig(c.text), { code: c.code }));

test("defaults of a configuration", () => {
  const config = parseConfig('{"name":"a"}');
  assert.equal(config.cniVersion, "0.1.0");
  assert.equal(config.agentRunDir, "/var/run/istio-cni");
  assert.equal(config.logLevel, "info");
  assert.equal(config.ambientEnabled, true);
  assert.deepEqual(config.excludeNamespaces, []);
  assert.deepEqual(parseConfig('{"name":"a","exclude_namespaces":null}').excludeNamespaces, []);
});

test("a result is printed as it came, in the configuration's version", () => {
  const prevResult = {
    cniVersion: "1.0.0",
    interfaces: [{ name: "eth0", mac: "x", sandbox: "/n", mtu: 1500 }],
    ips: [{ address: "10.0.0.2/24", interface: 0 }],
    routes: [{ dst: "0.0.0.0/0" }],
    dns: { nameservers: ["10.0.0.10"] },
    custom: { kept: true },
  };
  const config = parseConfig(JSON.stringify({ name: "a", cniVersion: "1.1.0", prevResult }));
  assert.deepEqual(JSON.parse(addResult(config)), { ...prevResult, cniVersion: "1.1.0" });
  assert.equal(
    addResult(parseConfig('{"name":"a","cniVersion":"0.3.1"}')),
    '{"cniVersion":"0.3.1"}\n',
  );
});

test("addresses become Go's net.IPNet: text and mask bytes", () => {
  const config = parseConfig(
    JSON.stringify({
      name: "a",
      cniVersion: "1.0.0",
      prevResult: {
        ips: [
          { address: "10.0.0.2/24", gateway: "10.0.0.1", interface: 2 },
          { address: "fd00::2/64" },
        ],
      },
    }),
  );
  assert.deepEqual(resultIps(config), [
    { Interface: 2, Address: { IP: "10.0.0.2", Mask: "////AA==" }, Gateway: "10.0.0.1" },
    {
      Interface: null,
      Address: { IP: "fd00::2", Mask: "//////////8AAAAAAAAAAA==" },
      Gateway: "",
    },
  ]);
});

test("results before 0.3 name one address of each family", () => {
  const config = parseConfig(
    JSON.stringify({
      name: "a",
      cniVersion: "0.2.0",
      prevResult: { ip4: { ip: "10.0.0.2/20", gateway: "10.0.0.1" }, ip6: { ip: "fd00::2/128" } },
    }),
  );
  assert.deepEqual(
    resultIps(config)?.map((ip) => ip.Address),
    [
      { IP: "10.0.0.2", Mask: "///wAA==" },
      { IP: "fd00::2", Mask: "/////////////////////w==" },
    ],
  );
});

test("no result, or one without addresses, gives none; a bad address is an error", () => {
  assert.equal(resultIps(parseConfig('{"name":"a"}')), null);
  const of = (prevResult: unknown) =>
    parseConfig(JSON.stringify({ name: "a", cniVersion: "1.0.0", prevResult }));
  assert.equal(resultIps(of({})), null);
  for (const address of ["10.0.0.2", "10.0.0.2/33", "x/8", null, 5])
    assert.throws(() => resultIps(of({ ips: [{ address }] })), { code: 6 }, String(address));
});

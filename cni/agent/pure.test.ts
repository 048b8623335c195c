// The agent's parsers and decisions: text and objects in, values out.
import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { parseIp } from "#lib/net/ip.ts";
import type { Namespace, Pod } from "#lib/kube/objects.ts";
import { parseCgroup, parseStartTime, podUidOfMounts } from "./cgroup.ts";
import { isPodOf, uidOnNode, wishFor } from "../enrolment/wish.ts";
import { readConfig, readSelectors } from "./config.ts";
import { placesOf } from "./netns-finder.ts";
import { parseGcRequest, parsePluginEvent } from "./plugin-event.ts";
import { podIps, ruleOptionsFor } from "./pod-knobs.ts";
import { addressesOfIfInet6, localsOfFibTrie } from "./pod-netns.ts";
import { SandboxStore } from "./sandbox-store.ts";

const UID = "1f0c3a5e-7d7a-4a54-9a52-0e1d2c3b4a59";
const ID = "9b8c7d6e5f4a3b2c1d0e9f8a7b6c5d4e3f2a1b0c9d8e7f6a5b4c3d2e1f0a9b8c";
const UNDERSCORED = UID.replaceAll("-", "_");

for (const path of [
  `0::/kubepods/burstable/pod${UID}/${ID}`,
  `0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${UNDERSCORED}.slice/cri-containerd-${ID}.scope`,
  `0::/kubepods.slice/kubepods-pod${UNDERSCORED}.slice/crio-${ID}.scope`,
  `0::/kubepods.slice/kubepods-besteffort-pod${UNDERSCORED}.slice/docker-${ID}.scope`,
  `0::/system.slice/containerd.service/kubepods-besteffort-pod${UNDERSCORED}.slice:cri-containerd:${ID}`,
  `0::/../../pod${UID}/${ID}`,
  `0::/kubelet.slice/kubelet-kubepods.slice/pod${UID.replaceAll("-", "")}/${ID}`,
  `12:cpu:/kubepods/pod${UID}/${ID}\n11:memory:/kubepods/pod${UID}/${ID}\n0::/`,
])
  test(`cgroup: ${path.slice(0, 70)}`, () =>
    assert.deepEqual(parseCgroup(path), { podUid: UID, containerId: ID }));

for (const path of [
  "",
  "0::/",
  "0::/user.slice/user-1000.slice/session-1.scope",
  `0::/system.slice/crio-${ID}.scope`,
  `0::/kubepods/burstable/pod${UID}`,
  `0::/kubepods/burstable/xpod${UID}/${ID}`,
  `1:cpu:/kubepods/pod${UID}/${ID}\n0::/kubepods/pod${UID}/other`,
])
  test(`cgroup of no pod: ${path.slice(0, 60)}`, () => assert.equal(parseCgroup(path), null));

test("start time: field 22, whatever the process calls itself", () => {
  const rest = `S 1 ${Array.from({ length: 17 }, (_, i) => i).join(" ")} 4242 0 0`;
  assert.equal(parseStartTime(`77 (a) b) S (c) ${rest}`), 4242);
  assert.equal(parseStartTime("77 (a) S 1"), null);
  assert.equal(parseStartTime(""), null);
});

test("addresses inside a namespace, from procfs", () => {
  const trie = `Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 10.99.1.0
        /24 link UNICAST
     |-- 10.99.1.2
        /32 host LOCAL
     |-- 10.99.1.255
        /32 link BROADCAST
`;
  assert.deepEqual(localsOfFibTrie(trie), ["10.99.1.2"]);
  const inet6 =
    "fd990001000000000000000000000002 02 40 00 80     eth0\n00000000000000000000000000000001 01 80 10 80       lo\n";
  assert.deepEqual(addressesOfIfInet6(inet6), ["fd99:1::2", "::1"]);
  assert.deepEqual(addressesOfIfInet6(""), []);
});

function pod(extra: {
  labels?: object;
  annotations?: object;
  spec?: object;
  status?: object;
}): Pod {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a literal of this test
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "p", namespace: "shop", uid: UID, ...extra },
    spec: { containers: [], ...extra.spec },
    status: { phase: "Running", ...extra.status },
  } as unknown as Pod;
}

function namespace(labels: Record<string, string>): Namespace {
  return { apiVersion: "v1", kind: "Namespace", metadata: { name: "shop", labels } };
}

const MODE = "istio.io/dataplane-mode";
const RULES = readConfig({ NODE_NAME: "a", MANIFEST_DIR: "/m" });
const AMBIENT = namespace({ [MODE]: "ambient" });

for (const c of [
  { name: "namespace ambient", ns: AMBIENT, pod: {}, want: true },
  { name: "namespace ambient, pod odd", ns: AMBIENT, pod: { labels: { [MODE]: "x" } }, want: true },
  {
    name: "namespace ambient, pod none",
    ns: AMBIENT,
    pod: { labels: { [MODE]: "none" } },
    want: false,
  },
  {
    name: "pod ambient alone",
    ns: namespace({}),
    pod: { labels: { [MODE]: "ambient" } },
    want: true,
  },
  {
    name: "pod ambient, namespace unknown",
    ns: null,
    pod: { labels: { [MODE]: "ambient" } },
    want: true,
  },
  { name: "neither", ns: namespace({}), pod: {}, want: false },
  { name: "namespace unknown", ns: null, pod: {}, want: false },
  { name: "host network", ns: AMBIENT, pod: { spec: { hostNetwork: true } }, want: false },
  {
    name: "sidecar, any value",
    ns: AMBIENT,
    pod: { annotations: { "sidecar.istio.io/status": "" } },
    want: false,
  },
])
  test(`enrolment: ${c.name}`, () =>
    assert.equal(wishFor(pod(c.pod), c.ns, RULES).kind === "enrol", c.want));

test("mounts name the pod where cgroups do not", () => {
  const line = (root: string, at: string) => `36 35 98:0 ${root} ${at} rw - ext4 /dev/root rw`;
  const hosts = line(`/var/lib/kubelet/pods/${UID}/etc-hosts`, "/etc/hosts");
  const end = line(`/pods/${UID}/containers/app/1b2c`, "/dev/termination-log");
  assert.equal(podUidOfMounts([line("/", "/"), hosts, end].join("\n")), UID);
  const plain = `/d/pods/${UID.replaceAll("-", "")}/etc-hosts`;
  assert.equal(podUidOfMounts(line(plain, "/etc/hosts")), UID, "a static pod");
  const other = line("/k/pods/00000000-7d7a-4a54-9a52-0e1d2c3b4a59/etc-hosts", "/x");
  assert.equal(podUidOfMounts([hosts, other].join("\n")), null, "two pods");
  for (const root of ["/", `/pods/${UID}`, `/pods/${UID}/volumes/x`, `/xpods/${UID}/etc-hosts`])
    assert.equal(podUidOfMounts(line(root, "/x")), null, root);
  assert.equal(podUidOfMounts(""), null);
});

test("a runtime's path, as seen from a container", () => {
  const places = (path: string) =>
    placesOf(path, { hostNetnsPrefix: "/host", hostProc: "/host/proc" });
  assert.deepEqual(places("/var/run/netns/x"), ["/host/var/run/netns/x", "/host/run/netns/x"]);
  assert.deepEqual(places("/run/netns/x"), ["/host/run/netns/x", "/host/var/run/netns/x"]);
  assert.deepEqual(places("/proc/17/ns/net"), ["/host/proc/17/ns/net"]);
  assert.deepEqual(places("/srv/ns"), ["/host/srv/ns"]);
});

test("a static pod and its mirror are one pod", () => {
  const hash = "0123456789abcdef0123456789abcdef";
  const mirror = pod({ annotations: { "kubernetes.io/config.mirror": hash } });
  assert.equal(isPodOf(mirror, hash), true);
  assert.equal(isPodOf(mirror, "another"), false);
  assert.equal(uidOnNode(mirror), "01234567-89ab-cdef-0123-456789abcdef");
});

test("enrolment: ended pods and excluded namespaces", () => {
  assert.equal(wishFor(pod({ status: { phase: "Succeeded" } }), AMBIENT, RULES).kind, "ended");
  assert.equal(wishFor(pod({ status: { phase: "Failed" } }), AMBIENT, RULES).kind, "ended");
  const excluding = readConfig({
    NODE_NAME: "a",
    MANIFEST_DIR: "/m",
    EXCLUDE_NAMESPACES: " x , shop ",
  });
  assert.deepEqual(wishFor(pod({}), AMBIENT, excluding), {
    kind: "leave out",
    why: "excluded namespace",
  });
});

test("selectors: an empty selector matches everything, an empty list nothing", () => {
  assert.equal(readSelectors("").compiled.length, 0);
  assert.equal(readSelectors("[]").compiled.length, 0);
  const [all] = readSelectors("- {}").compiled;
  assert.equal(all?.matchesPod({}) && all.matchesNamespace({}), true);
  const [odd] = readSelectors(
    "- podSelector: {matchExpressions: [{key: a, operator: Exists}, {key: b, operator: In, values: [x]}]}",
  ).compiled;
  assert.equal(odd?.matchesPod({ a: "", b: "x" }), true);
  assert.equal(odd?.matchesPod({ b: "x" }), false);
});

for (const text of [
  "a: b",
  "- 5",
  "- podselector: {}",
  "- podSelector: {matchlabels: {}}",
  "- podSelector: {matchLabels: {a: 1}}",
  "- podSelector: {matchExpressions: [{key: a, operator: Like}]}",
  "- podSelector: {matchExpressions: [{key: a, operator: In}]}",
  "- podSelector: 5",
])
  test(`selectors: refused ${JSON.stringify(text)}`, () =>
    assert.throws(() => readSelectors(text)));

test("configuration: every mistake is named at once", () => {
  assert.throws(
    () =>
      readConfig({
        AMBIENT_IPV6: "maybe",
        HEALTH_PORT: "70000",
        CNI_AGENT_RUN_DIR: "run",
        FORCE_IPTABLES_BINARY: "ipfw",
        HOST_PROBE_SNAT_IP: "fd00::1",
        AMBIENT_ENABLEMENT_SELECTOR: "5",
        KUBECONFIG_MODE: "rw",
        CNI_CONF_NAME: "../x.conf",
        ISTIO_OWNED_CNI_CONFIG: "true",
        CHAINED_CNI_PLUGIN: "false",
      }),
    (error: Error) =>
      [
        "NODE_NAME",
        "AMBIENT_IPV6",
        "HEALTH_PORT",
        "CNI_AGENT_RUN_DIR",
        "FORCE_IPTABLES_BINARY",
        "HOST_PROBE_SNAT_IP",
        "AMBIENT_ENABLEMENT_SELECTOR",
        "KUBERNETES_SERVICE_HOST",
        "KUBECONFIG_MODE",
        "CNI_CONF_NAME",
        "ISTIO_OWNED_CNI_CONFIG",
      ].every((name) => error.message.includes(name)),
  );
});

test("configuration: the node's namespace", () => {
  const of = (env: Record<string, string>) =>
    readConfig({ NODE_NAME: "a", KUBERNETES_SERVICE_HOST: "10.96.0.1", ...env }).hostNetns;
  assert.equal(of({}), "/host/proc/1/ns/net");
  assert.equal(of({ ALLOW_SWITCH_TO_HOST_NS: "false" }), null);
  assert.equal(of({ MANIFEST_DIR: "/m" }), null);
  assert.equal(of({ HOST_NETNS: "/run/netns/n" }), "/run/netns/n");
});

test("a pod's annotations over the node's settings", () => {
  const knobs = (annotations: Record<string, string>) =>
    ruleOptionsFor(pod({ annotations }), RULES);
  assert.equal(knobs({}).dnsCapture, true);
  assert.equal(knobs({ "ambient.istio.io/dns-capture": "F" }).dnsCapture, false);
  assert.equal(knobs({ "ambient.istio.io/dns-capture": "no" }).dnsCapture, true);
  assert.equal(knobs({ "ambient.istio.io/bypass-inbound-capture": "TRUE" }).bypassInbound, true);
  assert.deepEqual(
    knobs({ "istio.io/reroute-virtual-interfaces": " br0, ,br1,br0" }).virtualInterfaces,
    ["br0", "br1"],
  );
  assert.deepEqual(podIps(pod({ status: { podIP: "10.0.0.1" } })), ["10.0.0.1"]);
  assert.deepEqual(
    podIps(
      pod({
        status: { podIP: "10.0.0.1", podIPs: [{ ip: "10.0.0.1" }, { ip: "::ffff:10.0.0.2" }] },
      }),
    ),
    ["10.0.0.1", "10.0.0.2"],
  );
  assert.deepEqual(podIps(pod({})), []);
});

test("an event: names in any case, addresses un-mapped, headers optional", () => {
  const body =
    '{"netns":"/run/netns/x","podName":"a","PODNAMESPACE":"b","ips":[{"address":{"ip":"::ffff:10.0.0.2","mask":"x"}}]}';
  assert.deepEqual(parsePluginEvent(body, { "ambit-pod-uid": "u" }), {
    netns: "/run/netns/x",
    podName: "a",
    podNamespace: "b",
    ips: ["10.0.0.2"],
    podUid: "u",
    containerId: "",
    network: "",
  });
});

for (const body of [
  "",
  "x",
  "[]",
  "{}",
  '{"Netns":"run/x","PodName":"a","PodNamespace":"b"}',
  '{"Netns":"/run/../etc/x","PodName":"a","PodNamespace":"b"}',
  '{"Netns":"/x","PodName":5,"PodNamespace":"b"}',
  '{"Netns":"/x","PodName":"a","PodNamespace":"b","IPs":[{}]}',
  '{"Netns":"/x","PodName":"a","PodNamespace":"b","IPs":"10.0.0.1"}',
])
  test(`no event: ${body}`, () =>
    assert.throws(() => parsePluginEvent(body, {}), { code: "BAD_EVENT" }));

test("garbage collection: network and containers", () => {
  const request = parseGcRequest(
    '{"name":"n","validAttachments":[{"containerID":"c","ifname":"e"}]}',
  );
  assert.deepEqual([...request.validContainers], ["c"]);
  for (const body of ["", "{}", '{"name":"n","validAttachments":[{}]}'])
    assert.throws(() => parseGcRequest(body), { code: "BAD_EVENT" });
});

test("sandboxes are remembered across a restart, unreadable ones dropped", () => {
  const dir = mkdtempSync(join(tmpdir(), "cni-sandbox-"));
  try {
    const sandbox = {
      podUid: UID,
      name: "p",
      namespace: "shop",
      netns: "/run/netns/x",
      netnsId: "4:1",
      ips: [parseIp("10.0.0.2")],
      containerId: "c",
      network: "n",
    };
    new SandboxStore(dir).put(sandbox);
    writeFileSync(join(dir, "broken.json"), "{");
    writeFileSync(join(dir, "half.json.tmp"), "{");
    const again = new SandboxStore(dir);
    assert.deepEqual(again.get(UID), sandbox);
    assert.deepEqual(readdirSync(dir), [`${UID}.json`]);
    again.delete(UID);
    again.delete(UID);
    assert.deepEqual(readdirSync(dir), []);
    assert.throws(() => again.put({ ...sandbox, podUid: "../x" }));
  } finally {
    rmSync(dir, { recursive: true });
  }
});

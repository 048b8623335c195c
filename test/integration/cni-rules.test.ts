// The packet walks of cni/rules on real packets: each backend, both families, in namespaces.
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { test } from "node:test";
import { PROBE_SNAT, PROXY_MARK } from "../../cni/rules/constants.ts";
import {
  applyPodRules,
  hasPodRules,
  podRuleFaults,
  removePodRules,
} from "../../cni/rules/apply.ts";
import type { Backend } from "../../cni/rules/backend.ts";
import { detectBackend } from "../../cni/rules/detect.ts";
import { scriptRunner, type ScriptRunner } from "../../cni/rules/exec.ts";
import { HostRules } from "../../cni/rules/host.ts";
import { planHostRules } from "../../cni/rules/plan-host.ts";
import { planPodRules, type PodRuleOptions } from "../../cni/rules/plan.ts";
import { parseIp } from "#lib/net/ip.ts";
import { bindUdp } from "#lib/sys/socket.ts";
import type { NetnsFd } from "#lib/sys/netns.ts";
import { ADDRESS, cannotMakeNamespaces, exchange, PodNetwork, until } from "./cni-fixture.ts";

const skip = cannotMakeNamespaces();
const OPTIONS: PodRuleOptions = {
  dnsCapture: true,
  ipv6: true,
  bypassInbound: false,
  virtualInterfaces: [],
};
const PLAN = planPodRules(OPTIONS);

function tools(kind: string): Extract<Backend, { kind: "iptables" }>["ipv4"] {
  return { command: kind, restore: `${kind}-restore`, save: `${kind}-save` };
}

const BACKENDS: readonly (readonly [string, Backend])[] = [
  ["nftables", { kind: "nft" }],
  [
    "iptables-nft",
    { kind: "iptables", ipv4: tools("iptables-nft"), ipv6: tools("ip6tables-nft"), wait: "" },
  ],
  [
    "iptables-legacy",
    {
      kind: "iptables",
      ipv4: tools("iptables-legacy"),
      ipv6: tools("ip6tables-legacy"),
      wait: "--wait=30",
    },
  ],
];

function runnerIn(ns: NetnsFd): ScriptRunner {
  return scriptRunner(ns, 20_000);
}

for (const [name, backend] of BACKENDS) {
  const tag = name.replace("tables", "");

  test(`${name}: a pod's traffic passes the proxy and nothing loops`, { skip }, async (t) => {
    using net = new PodNetwork(`${tag}w`);
    const runner = runnerIn(net.pod);
    const started = performance.now();
    await applyPodRules(runner, backend, PLAN);
    t.diagnostic(`applied in ${(performance.now() - started).toFixed(1)} ms`);
    assert.deepEqual(await podRuleFaults(runner, backend, PLAN), []);

    const proxy = { mark: PROXY_MARK, transparent: true };
    const listeners = {
      outbound: net.listen(net.pod, 15_001, proxy),
      inbound: net.listen(net.pod, 15_006, proxy),
      hbone: net.listen(net.pod, 15_008, proxy),
      app: net.listen(net.pod, 8080),
      peer: net.listen(net.peer, 80),
    };
    const host = new HostRules(
      runnerIn(net.node),
      backend,
      planHostRules({ ipv6: true, proberUid: null }),
    );
    await host.install([]);

    for (const family of ["ipv4", "ipv6"] as const) {
      const { pod, peer } = ADDRESS[family];
      await t.test(`${family}: outbound is captured with its destination`, async () => {
        net.connect(net.pod, { ip: peer, port: 80 });
        const got = await net.accepted(listeners);
        assert.equal(got.at, "outbound");
        assert.deepEqual(got.originalDst, { ip: peer, port: 80 });
        assert.equal(got.peer.ip, pod);
      });
      await t.test(`${family}: the proxy's own socket leaves the pod`, async () => {
        const out = net.connect(net.pod, { ip: peer, port: 80 }, { mark: PROXY_MARK });
        const got = await net.accepted(listeners);
        assert.equal(got.at, "peer");
        assert.equal(got.peer.ip, pod);
        assert.equal(await exchange(got.fd, out, "reply"), "reply");
      });
      await t.test(`${family}: inbound plaintext is captured`, async () => {
        net.connect(net.peer, { ip: pod, port: 8080 });
        const got = await net.accepted(listeners);
        assert.equal(got.at, "inbound");
        assert.deepEqual(got.originalDst, { ip: pod, port: 8080 });
        assert.equal(got.peer.ip, peer);
      });
      await t.test(`${family}: a mark set by the peer does not help it`, async () => {
        net.connect(net.peer, { ip: pod, port: 8080 }, { mark: PROXY_MARK });
        assert.equal((await net.accepted(listeners)).at, "inbound");
      });
      await t.test(`${family}: HBONE arrives untouched`, async () => {
        net.connect(net.peer, { ip: pod, port: 15_008 });
        const got = await net.accepted(listeners);
        assert.equal(got.at, "hbone");
        assert.deepEqual(got.originalDst, { ip: pod, port: 15_008 });
      });
      await t.test(`${family}: the application sees the client's address`, async () => {
        const leg = net.connect(net.pod, { ip: pod, port: 8080 }, { mark: PROXY_MARK, from: peer });
        const got = await net.accepted(listeners);
        assert.equal(got.at, "app");
        assert.equal(got.peer.ip, peer);
        assert.equal(await exchange(leg, got.fd, "request"), "request");
        assert.equal(await exchange(got.fd, leg, "reply"), "reply");
      });
      await t.test(`${family}: a call to the pod itself skips the proxy`, async () => {
        net.connect(net.pod, { ip: pod, port: 8080 });
        assert.equal((await net.accepted(listeners)).at, "app");
      });
      await t.test(
        `${family}: a probe reaches the application once its pod is in the set`,
        async () => {
          net.connect(net.node, { ip: pod, port: 8080 });
          assert.equal((await net.accepted(listeners)).at, "inbound");
          await host.put({ ip: pod, uid: "uid-1" });
          const probe = net.connect(net.node, { ip: pod, port: 8080 });
          const got = await net.accepted(listeners);
          assert.equal(got.at, "app");
          assert.equal(got.peer.ip, PROBE_SNAT[family]);
          assert.equal(await exchange(got.fd, probe, "healthy"), "healthy");
          await host.drop({ ip: pod, uid: "uid-2" });
          net.connect(net.node, { ip: pod, port: 8080 });
          assert.equal((await net.accepted(listeners)).at, "app", "another pod's drop is ignored");
          await host.drop({ ip: pod, uid: "uid-1" });
          net.connect(net.node, { ip: pod, port: 8080 });
          assert.equal((await net.accepted(listeners)).at, "inbound");
        },
      );
      await t.test(
        `${family}: a DNS query goes to the proxy, the proxy's to the server`,
        async () => {
          const loop = parseIp(family === "ipv4" ? "127.0.0.1" : "::1");
          const seen: string[] = [];
          await using dns = await udp(net.pod, loop, 15_053, () => seen.push("proxy"), PROXY_MARK);
          await using server = await udp(net.peer, peer, 53, () => seen.push("server"));
          const any = parseIp(family === "ipv4" ? "0.0.0.0" : "::");
          const app = await udp(net.pod, any, 0, () => undefined);
          const { port } = app.socket.address();
          app.socket.send("query", 53, peer);
          await until("the query", () => (seen.length > 0 ? true : null));
          assert.deepEqual(seen, ["proxy"]);
          await app[Symbol.asyncDispose]();
          // from the port the application has just used: without conntrack zones this would come back
          await using upstream = await udp(net.pod, any, port, () => undefined, PROXY_MARK);
          upstream.socket.send("query", 53, peer);
          await until("the forwarded query", () => (seen.length > 1 ? true : null));
          assert.deepEqual(seen, ["proxy", "server"]);
          dns.socket.unref();
          server.socket.unref();
        },
      );
    }

    await t.test("removal restores", async () => {
      await removePodRules(runner, backend);
      await removePodRules(runner, backend);
      assert.equal(await hasPodRules(runner, backend), false);
      net.connect(net.pod, { ip: ADDRESS.ipv4.peer, port: 80 });
      assert.equal((await net.accepted(listeners)).at, "peer");
      net.connect(net.peer, { ip: ADDRESS.ipv6.pod, port: 8080 });
      assert.equal((await net.accepted(listeners)).at, "app");
      assert.equal(
        net.exec("pod", "ip rule; ip -6 rule; ip route show table all").includes(" 100"),
        false,
      );
      await host.remove();
      await host.remove();
    });
  });

  test(`${name}: damage is found and repaired, options change in place`, { skip }, async (t) => {
    using net = new PodNetwork(`${tag}r`);
    const runner = runnerIn(net.pod);
    await applyPodRules(runner, backend, PLAN);
    const started = performance.now();
    await applyPodRules(runner, backend, PLAN);
    t.diagnostic(`applied again in ${(performance.now() - started).toFixed(1)} ms`);
    const checked = performance.now();
    assert.deepEqual(await podRuleFaults(runner, backend, PLAN), []);
    t.diagnostic(`checked in ${(performance.now() - checked).toFixed(1)} ms`);
    assert.equal(await hasPodRules(runner, backend), true);

    const command = backend.kind === "nft" ? "nft" : backend.ipv4.command;
    const damage =
      backend.kind === "nft"
        ? [
            "nft flush chain inet istio-ambient-nat istio-output",
            "nft delete table inet istio-ambient-mangle",
          ]
        : [
            `${command} -t nat -F ISTIO_OUTPUT`,
            `${command} -t mangle -D PREROUTING -j ISTIO_PRERT`,
          ];
    for (const line of [...damage, "ip -6 rule del priority 32764", "ip route flush table 100"]) {
      net.exec("pod", line);
      const faults = await podRuleFaults(runner, backend, PLAN);
      assert.equal(faults.length > 0, true, line);
      await applyPodRules(runner, backend, PLAN);
      assert.deepEqual(await podRuleFaults(runner, backend, PLAN), [], line);
    }

    const narrow = planPodRules({
      ...OPTIONS,
      ipv6: false,
      dnsCapture: false,
      bypassInbound: true,
    });
    assert.notDeepEqual(await podRuleFaults(runner, backend, narrow), []);
    await applyPodRules(runner, backend, narrow);
    assert.deepEqual(await podRuleFaults(runner, backend, narrow), []);
    const listeners = {
      outbound: net.listen(net.pod, 15_001, { mark: PROXY_MARK }),
      inbound: net.listen(net.pod, 15_006, { mark: PROXY_MARK }),
      app: net.listen(net.pod, 8080),
      peer: net.listen(net.peer, 80),
    };
    net.connect(net.peer, { ip: ADDRESS.ipv4.pod, port: 8080 });
    assert.equal((await net.accepted(listeners)).at, "app", "inbound is bypassed");
    net.connect(net.pod, { ip: ADDRESS.ipv4.peer, port: 80 });
    assert.equal((await net.accepted(listeners)).at, "outbound");
    net.connect(net.pod, { ip: ADDRESS.ipv6.peer, port: 80 });
    assert.equal((await net.accepted(listeners)).at, "peer", "IPv6 is off: not captured");
  });

  test(`${name}: host rules are found damaged and repaired`, { skip }, async () => {
    using net = new PodNetwork(`${tag}h`);
    const host = new HostRules(
      runnerIn(net.node),
      backend,
      planHostRules({ ipv6: true, proberUid: backend.kind === "nft" ? 0 : null }),
    );
    const entries = [ADDRESS.ipv4.pod, ADDRESS.ipv6.pod].map((ip) => ({ ip, uid: "uid-1" }));
    await host.install(entries);
    assert.deepEqual(await host.faults(), []);
    await Promise.all(
      Array.from({ length: 20 }, (_, i) =>
        host.put({ ip: parseIp(`10.99.3.${i + 1}`), uid: `uid-${i}` }),
      ),
    );
    assert.deepEqual(await host.faults(), []);
    net.exec(
      "node",
      backend.kind === "nft"
        ? "nft delete element inet istio-ambient-nat istio-inpod-probes-v4 '{ 10.99.1.2 }'"
        : "ipset del istio-inpod-probes-v4 10.99.1.2",
    );
    assert.equal((await host.repair()).length, 1);
    assert.deepEqual(await host.faults(), []);
    net.exec(
      "node",
      backend.kind === "nft"
        ? "nft delete table inet istio-ambient-nat"
        : `${backend.ipv4.command} -t nat -F ISTIO_POSTRT`,
    );
    assert.equal((await host.repair()).length > 0, true);
    assert.deepEqual(await host.faults(), []);
    await host.put({ ip: ADDRESS.ipv4.pod, uid: "uid-new" });
    assert.deepEqual(await host.faults(), [], "a reused address changes its owner");
  });
}

test("the backend is chosen by what works here", { skip }, async () => {
  using net = new PodNetwork("d");
  const runner = runnerIn(net.node);
  const options = { preferNft: true, forceIptables: null, ipv6: true };
  assert.deepEqual((await detectBackend(runner, options)).backend, { kind: "nft" });
  const forced = await detectBackend(runner, { ...options, forceIptables: "legacy" });
  assert.equal(forced.backend.kind === "iptables" && forced.backend.wait, "--wait=30");
  const plain = await detectBackend(runner, { ...options, preferNft: false });
  assert.equal(plain.backend.kind, "iptables");
  net.exec("node", "ipset create istio-inpod-probes-v4 hash:ip family inet comment");
  const migrating = await detectBackend(runner, options);
  assert.equal(migrating.backend.kind, "iptables");
  assert.match(migrating.notes.join(), /until it reboots/);
});

async function udp(
  netns: NetnsFd,
  ip: ReturnType<typeof parseIp>,
  port: number,
  onMessage: () => void,
  mark?: number,
): Promise<{ socket: ReturnType<typeof createSocket> } & AsyncDisposable> {
  const fd = bindUdp({ ip, port, netns, ...(mark === undefined ? {} : { mark }) });
  const socket = createSocket(ip.includes(":") ? "udp6" : "udp4");
  socket.on("message", onMessage);
  await new Promise<void>((resolve) => socket.bind({ fd }, resolve));
  return {
    socket,
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => void socket.close(() => resolve())),
  };
}

// Our own waypoint between two ztunnels, at L4: two tunnels on the link, the right identities on each, policies attached
// to it by targetRefs, and nothing that goes around it.
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { request, type IncomingMessage } from "node:http";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { describe, test } from "node:test";
import { RESOURCES, type Gateway } from "#lib/kube/objects.ts";
import { PORT } from "#lib/net/ports.ts";
import type { Lab } from "../../lab/lab.ts";
import { ISTIOD_HOST } from "../../lab/mesh-parts.ts";
import type { LabPod } from "../../lab/pod.ts";
import { connectFrom } from "../../lab/probe.ts";
import { runWaypoint } from "../../lab/waypoint.ts";
import { labSandbox } from "../harness/lab.ts";
import {
  allow,
  AMBIENT,
  configDump,
  dial,
  echoLines,
  known,
  knownService,
  listen,
  logLine,
  pod,
  sharedMesh,
  type Service,
  suite,
  tryAsk,
  tunnels,
  within,
} from "./mesh-fixture.ts";

const needsLab = await labSandbox();
const SA = "spiffe://cluster.local/ns/shop/sa";
const HOST = "server.shop.svc.cluster.local";

describe("waypoint at L4", suite(needsLab), () => {
  let client: LabPod;
  let other: LabPod;
  let server: LabPod;
  let waypoint: LabPod;
  let vip = "";
  const mesh = sharedMesh({}, async (lab) => {
    await lab.namespace("shop", AMBIENT);
    [client, other, server] = await Promise.all([
      pod(lab, "a", "client"),
      pod(lab, "a", "other"),
      pod(lab, "b", "server"),
    ]);
    const labels = { "istio.io/use-waypoint": "wp" };
    const ports = [{ name: "tcp", port: 80, targetPort: 8080 }];
    const of = { namespace: "shop", selector: { app: "server" }, ports };
    vip = (await lab.service({ ...of, name: "server", labels })).spec?.clusterIP ?? "";
    await lab.service({
      name: "wp",
      namespace: "shop",
      selector: { "gateway.networking.k8s.io/gateway-name": "wp" },
      ports: [{ name: "mesh", port: 15_008 }],
    });
    await gateway(lab, "service");
    waypoint = await runWaypoint(lab, "b", { namespace: "shop", gateway: "wp" });
    await known(lab, client, other, server);
    await knownService(lab, "server", 1);
    await knownService(lab, "wp", 1);
  });

  /** Lines of the waypoint's log, with those of earlier ones of the same pod. */
  const log = (): string[] => (waypoint.main?.stdout ?? "").split("\n");
  const line = (pattern: RegExp): Promise<string> =>
    within(
      `a line ${pattern} in the waypoint's log`,
      () => log().findLast((l) => pattern.test(l)) ?? null,
    );
  const get = (port: number, path: string): Promise<string> => httpGet(waypoint, port, path);

  /** Policies of earlier tests are gone: who was denied by them is served. */
  const open = (): Promise<string> => within("an answer", () => tryAsk(other, vip, 80));

  test("both hops are tunnels, each with its own identities, and nothing is in clear", async () => {
    await using _ = await echoLines(server);
    await using capture = await mesh().link.capture();
    using peer = await dial(client, vip, 80);
    // the pod sees the waypoint's address
    assert.equal(await peer.ask("SECRET"), `server ${waypoint.ip} SECRET`);
    const out = (await tunnels(mesh(), "a")).find((t) => t.direction === "outbound");
    assert.deepEqual(out?.via, { kind: "waypoint", namespace: "shop", name: "wp" });
    assert.equal(out.destination.identity, `${SA}/wp`);
    const into = (await tunnels(mesh(), "b")).find((t) => t.direction === "inbound");
    assert.equal(into?.source.identity, `${SA}/wp`);
    const { items } = JSON.parse(await get(PORT.ztunnelAdmin, "/ambit/tunnels"));
    assert.equal(items.length, 1);
    assert.equal(items[0].source.identity, `${SA}/client`);
    assert.equal(items[0].destination.identity, `${SA}/server`);
    assert.equal(items[0].destination.service, HOST);
    assert.ok(!(await capture.contains("SECRET")));
  });

  test("bytes arrive whole both ways, half-closes travel, large answers are not cut", async () => {
    const size = 24 * 1024 * 1024;
    await using _ = await bulk(server, size);
    using peer = await dial(client, vip, 80);
    const question = Buffer.alloc(4 * 1024 * 1024, "q");
    peer.socket.end(question);
    await within("the whole answer", () => peer.hasEnded, 30_000);
    assert.equal(peer.receivedBytes, size);
    assert.equal(peer.received.slice(0, 8), "04194304");
    peer.forget();
  });

  test("metrics and access log name both ends, the service and the reporter", async () => {
    await using _ = await echoLines(server);
    assert.notEqual(await tryAsk(client, vip, 80), null);
    const text = await within("the closed connection is counted", async () => {
      const got = await get(PORT.ztunnelMetrics, "/stats/prometheus");
      return /istio_tcp_connections_closed_total\{/.test(got) ? got : null;
    });
    const sample =
      text.split("\n").find((l) => l.startsWith("istio_tcp_connections_opened_total{")) ?? "";
    for (const label of [
      'reporter="waypoint"',
      'source_workload="client"',
      `source_principal="${SA}/client"`,
      `destination_service="${HOST}"`,
      'destination_workload="server"',
      `destination_principal="${SA}/server"`,
      'request_protocol="tcp"',
      'connection_security_policy="mutual_tls"',
    ])
      assert.ok(sample.includes(label), `${label} in ${sample}`);
    const complete = await line(/connection complete/);
    assert.ok(complete.includes(`dst.hbone_addr=${vip}:80`), complete);
    assert.ok(complete.includes(`src.identity="${SA}/client"`), complete);
    assert.ok(complete.includes(`dst.service="${HOST}"`), complete);
  });

  for (const target of [
    { name: "its Service", ref: { group: "", kind: "Service", name: "server" } },
    {
      name: "the Gateway",
      ref: { group: "gateway.networking.k8s.io", kind: "Gateway", name: "wp" },
    },
  ])
    test(`a policy attached to ${target.name} allows one, denies the other, and names itself`, async () => {
      await using _ = await echoLines(server);
      const name = `only-client-${target.ref.kind.toLowerCase()}`;
      const principals = [`${SA}/client`.replace("spiffe://", "")];
      await open();
      await using policy = await allow(mesh(), name, {
        targetRefs: [target.ref],
        rules: [{ from: [{ source: { principals } }], to: [{ operation: { ports: ["80"] } }] }],
      });
      void policy;
      await within("other is denied", async () => (await tryAsk(other, vip, 80)) === null);
      assert.equal(await tryAsk(other, vip, 80), null); // the one before may have been open when the policy came
      assert.equal(await tryAsk(client, vip, 80), `server ${waypoint.ip} hello`);
      const denied = await line(new RegExp(`policy_no_allow_match.*policy="shop/${name}"`));
      assert.ok(denied.includes(`${SA}/other`), denied);
      const told = new RegExp(`waypoint shop/wp answered 401: denied by policy shop/${name} `);
      await logLine(mesh(), "ztunnel", "a", told);
      // no ztunnel has it
      for (const node of ["a", "b"])
        assert.ok(!(await configDump(mesh(), node)).policies.some((p) => p.name === name));
    });

  test("a connection that a new policy forbids is ended, and others go on", async () => {
    await using _ = await echoLines(server);
    await open();
    using mine = await dial(client, vip, 80);
    using theirs = await dial(other, vip, 80);
    await mine.ask("before");
    await theirs.ask("before");
    await using policy = await allow(mesh(), "not-other", {
      action: "DENY",
      targetRefs: [{ group: "", kind: "Service", name: "server" }],
      rules: [{ from: [{ source: { serviceAccounts: ["other"] } }] }],
    });
    void policy;
    await theirs.closed();
    assert.equal(await mine.ask("after"), `server ${waypoint.ip} after`);
    await line(/reason="policy_changed" policy="shop\/not-other"/);
  });

  test("HTTP attributes are taken on the closed side, and the log says so", async () => {
    await using _ = await echoLines(server);
    const targetRefs = [{ group: "", kind: "Service", name: "server" }];
    const rules = [{ to: [{ operation: { methods: ["GET"] } }] }];
    for (const action of ["ALLOW", "DENY"] as const) {
      await using policy = await allow(mesh(), `http-${action.toLowerCase()}`, {
        action,
        targetRefs,
        rules,
      });
      void policy;
      await within(
        `${action} by method denies`,
        async () => (await tryAsk(client, vip, 80)) === null,
      );
      assert.match(
        await line(
          new RegExp(
            `cannot check.*http-${action.toLowerCase()}|http-${action.toLowerCase()}.*cannot check`,
          ),
        ),
        /methods/,
      );
    }
    await open();
  });

  test("a policy on trial decides nothing and tells what it would do", async () => {
    await using _ = await echoLines(server);
    const spec = {
      action: "DENY" as const,
      targetRefs: [{ group: "", kind: "Service", name: "server" }],
      rules: [{ from: [{ source: { serviceAccounts: ["other"] } }] }],
    };
    const annotations = { "istio.io/dry-run": "true" };
    await using policy = await allow(mesh(), "on-trial", spec, { annotations });
    void policy;
    await within("its note", async () => {
      assert.notEqual(await tryAsk(other, vip, 80), null);
      return log().some((l) => /dry-run policy\s.*policy="shop\/on-trial" would="deny"/.test(l));
    });
  });

  test("selector and namespace policies are none of the waypoint's", async () => {
    await using _ = await echoLines(server);
    const principals = [`${SA}/wp`.replace("spiffe://", "")];
    await using policy = await allow(mesh(), "through-waypoint", {
      selector: { matchLabels: { app: "server" } },
      rules: [{ from: [{ source: { principals } }] }],
    });
    void policy;
    await within(
      "who goes around it is denied",
      async () => (await tryAsk(client, server.ip)) === null,
    );
    assert.equal(await tryAsk(client, vip, 80), `server ${waypoint.ip} hello`);
  });

  test("what is not bound is refused: a service, a pod, a port, the waypoint itself", async () => {
    await using _ = await echoLines(server);
    await using __ = await bound(mesh(), null);
    // the client's ztunnel goes straight there; asked by hand, the waypoint refuses
    assert.equal(await tryAsk(client, vip, 80), `server ${client.ip} hello`);
    const asked = [`${vip}:80`, `${server.ip}:8080`, `${waypoint.ip}:15000`, "10.250.0.1:80", HOST];
    const answers = await connectStatus(mesh(), waypoint, asked);
    assert.deepEqual(Object.values(answers), [400, 400, 400, 400, 400]);
    await line(
      /is shop\/server\.shop\.svc\.cluster\.local, which is not bound.*reason="not_bound"/,
    );
    await line(/10\.250\.0\.1:80 is nothing the mesh knows, .*reason="not_bound"/);
  });

  test("a bound service is served by its name too, on the ports it has", async () => {
    await using _ = await echoLines(server);
    const asked = [`${HOST}:80`, `${HOST}:81`, `${vip}:81`, `${vip}:80`];
    const answers = await connectStatus(mesh(), waypoint, asked);
    assert.deepEqual(Object.values(answers), [200, 503, 503, 200]);
    await line(/has no port 81; it has ports: 80.*reason="no_port"/);
  });

  test("a pod bound to a waypoint for all traffic is reached through it by its address", async () => {
    await using _ = await echoLines(server);
    await gateway(mesh(), "all");
    await bindPod(mesh(), "wp");
    assert.equal(await tryAsk(client, server.ip), `server ${waypoint.ip} hello`);
    await bindPod(mesh(), null);
    await gateway(mesh(), "service");
  });

  test("a backend outside the mesh is reached in plaintext", async () => {
    const plain = await pod(mesh(), "b", "plain", {
      labels: { app: "plain", "istio.io/dataplane-mode": "none" },
    });
    await using _ = await echoLines(plain);
    const service = await mesh().service({
      name: "plain",
      namespace: "shop",
      selector: { app: "plain" },
      labels: { "istio.io/use-waypoint": "wp" },
      ports: [{ name: "tcp", port: 80, targetPort: 8080 }],
    });
    await knownService(mesh(), "plain", 1);
    const ip = service.spec?.clusterIP ?? "";
    assert.equal(
      await within("an answer", () => tryAsk(client, ip, 80)),
      `plain ${waypoint.ip} hello`,
    );
    await mesh().node("b").deletePod("shop", "plain");
  });

  test("an application that does not listen is told as such, and not as the waypoint's fault", async () => {
    assert.equal(await tryAsk(client, vip, 80), null);
    await line(new RegExp(`${server.ip}:8080 answered 503`));
  });

  test("killed, its traffic is refused and never goes around it; started again, it goes on", async () => {
    await using service = await echoLines(server);
    await using capture = await mesh().link.capture();
    waypoint.main?.kill("SIGKILL");
    await within("refused", async () => (await tryAsk(client, vip, 80, "AROUND")) === null);
    await knownService(mesh(), "wp", 0);
    assert.equal(await tryAsk(client, vip, 80, "AROUND"), null);
    assert.equal(service.peers.length, 0);
    assert.ok(!(await capture.contains("AROUND")));
    await mesh().node("b").deletePod("shop", "wp");
    waypoint = await runWaypoint(mesh(), "b", { namespace: "shop", gateway: "wp" });
    await knownService(mesh(), "wp", 1);
    assert.equal(await tryAsk(client, vip, 80), `server ${waypoint.ip} hello`);
  });

  test("told to end, it serves what is open and gives way to another without a failed call", async () => {
    await using _ = await echoLines(server);
    using peer = await dial(client, vip, 80);
    await peer.ask("before");
    const next = await runWaypoint(mesh(), "a", { namespace: "shop", gateway: "wp", pod: "wp-2" });
    await knownService(mesh(), "wp", 2);
    let isRolling = true;
    let failed = 0;
    const calls = (async () => {
      for (let n = 0; isRolling || n < 20; n++)
        if ((await tryAsk(client, vip, 80)) === null) failed++;
    })();
    const ended = mesh().node("b").deletePod("shop", "wp");
    assert.equal(await peer.ask("during"), `server ${waypoint.ip} during`);
    peer.socket.end();
    await ended;
    isRolling = false;
    await calls;
    assert.equal(failed, 0);
    assert.equal(await tryAsk(client, vip, 80), `server ${next.ip} hello`);
    waypoint = next;
  });
});

async function gateway(lab: Lab, trafficType: string): Promise<void> {
  const object: Gateway = {
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "Gateway",
    metadata: { name: "wp", namespace: "shop", labels: { "istio.io/waypoint-for": trafficType } },
    spec: {
      gatewayClassName: "istio-waypoint",
      listeners: [{ name: "mesh", port: 15_008, protocol: "HBONE" }],
    },
    status: { addresses: [{ type: "Hostname", value: "wp.shop.svc.cluster.local" }] },
  };
  await lab.cluster.apply(RESOURCES.gateways, object, { fieldManager: "test" });
}

/** The service's waypoint label as given, until the scope ends. */
async function bound(lab: Lab, name: string | null): Promise<AsyncDisposable> {
  const set = async (value: string | null): Promise<void> => {
    const patch = { metadata: { labels: { "istio.io/use-waypoint": value } } };
    await lab.cluster.patch(RESOURCES.services, "shop", "server", patch, { fieldManager: "test" });
    await within("node a knows the binding", async () => {
      const { services } = await configDump(lab, "a");
      const found = services.find((s) => s.hostname === HOST);
      return (found?.waypoint !== undefined) === (value !== null);
    });
  };
  await set(name);
  return { [Symbol.asyncDispose]: () => set("wp") };
}

async function bindPod(lab: Lab, name: string | null): Promise<void> {
  const patch = { metadata: { labels: { "istio.io/use-waypoint": name } } };
  await lab.cluster.patch(RESOURCES.pods, "shop", "server", patch, { fieldManager: "test" });
  await within("node a knows the binding", async () => {
    const { workloads } = await configDump(lab, "a");
    const found = workloads.find((w) => w.uid.endsWith("/Pod/shop/server"));
    return (found?.waypoint !== undefined) === (name !== null);
  });
}

/** Status of a CONNECT for each authority, asked by a program of our own in a pod outside the mesh. */
async function connectStatus(
  lab: Lab,
  waypoint: LabPod,
  authorities: readonly string[],
): Promise<Readonly<Record<string, number>>> {
  const token = join(lab.dir, "token-prober");
  const subject = { namespace: "shop", serviceAccount: "prober", node: { name: "a" } };
  await writeFile(token, await lab.mesh.issueToken(subject));
  const prober = await pod(lab, "a", "prober", {
    labels: { "istio.io/dataplane-mode": "none" },
  });
  try {
    const { stdout } = await prober.exec([
      process.execPath,
      join(import.meta.dirname, "connect-probe.ts"),
      `--ca=https://${ISTIOD_HOST}:15012`,
      `--root=${join(lab.dir, "root-cert.pem")}`,
      `--token=${token}`,
      "--account=shop/prober",
      `--to=${waypoint.ip}`,
      ...authorities,
    ]);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the probe's own format
    return JSON.parse(stdout) as Record<string, number>;
  } finally {
    await lab.node("a").deletePod("shop", "prober");
  }
}

/** A GET to a loopback port of a pod. */
async function httpGet(at: LabPod, port: number, path: string): Promise<string> {
  const socket = await connectFrom(at.netns, "127.0.0.1", port, 3_000);
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const asked = request({ createConnection: () => socket, path }, resolve);
    asked.once("error", reject);
    asked.end();
  });
  return text(response);
}

/** Takes everything to its end, then sends how many bytes came and fills up to `size`. */
function bulk(at: LabPod, size: number): Promise<Service> {
  return listen(at, 8080, (peer) => {
    peer.socket.on("data", () => peer.forget());
    peer.socket.on("end", () => {
      const answer = Buffer.alloc(size, "a");
      answer.write(String(peer.receivedBytes).padStart(8, "0"));
      peer.socket.end(answer);
    });
  });
}

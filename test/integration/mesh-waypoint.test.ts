// Services and pods bound to a waypoint: everything goes there, with the original destination as the
// authority, and nothing goes around it.
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, test } from "node:test";
import { RESOURCES, type Gateway } from "#lib/kube/objects.ts";
import type { Lab } from "../../lab/lab.ts";
import { ISTIOD_HOST } from "../../lab/mesh-parts.ts";
import type { LabPod } from "../../lab/pod.ts";
import { labSandbox } from "../harness/lab.ts";
import {
  allow,
  AMBIENT,
  configDump,
  dial,
  echoLines,
  inForce,
  known,
  knownService,
  logLine,
  pod,
  sharedMesh,
  suite,
  tryAsk,
  tunnels,
  within,
} from "./mesh-fixture.ts";

const needsLab = await labSandbox();
const WAYPOINT_SA = "spiffe://cluster.local/ns/shop/sa/waypoint";

describe("waypoint", suite(needsLab), () => {
  let client: LabPod;
  let server: LabPod;
  let waypoint: LabPod;
  let vip = "";
  let waypointVip = "";
  const mesh = sharedMesh({}, async (lab) => {
    await lab.namespace("shop", AMBIENT);
    [client, server] = await Promise.all([pod(lab, "a", "client"), pod(lab, "b", "server")]);
    const service = await lab.service({
      name: "server",
      namespace: "shop",
      selector: { app: "server" },
      ports: [
        { name: "tcp", port: 80, targetPort: 8080 },
        { name: "silent", port: 81, targetPort: 8080 },
      ],
    });
    vip = service.spec?.clusterIP ?? "";
    const front = await lab.service({
      name: "waypoint",
      namespace: "shop",
      selector: { "gateway.networking.k8s.io/gateway-name": "waypoint" },
      ports: [{ name: "mesh", port: 15_008, targetPort: 15_008 }],
    });
    waypointVip = front.spec?.clusterIP ?? "";
    waypoint = await startWaypoint(lab, [`${vip}:80=${server.ip}:8080`, `${vip}:81=silence`]);
    await known(lab, client, server);
    await knownService(lab, "server", 1);
    await knownService(lab, "waypoint", 1);
  });

  /** The CONNECT requests that the waypoint has seen. */
  const seen = (): readonly { authority: string; peer: string; forwarded?: string }[] =>
    (waypoint.main?.stdout ?? "")
      .split("\n")
      .filter((l) => l.startsWith("{"))
      .map((l) => JSON.parse(l));

  test("a bound service is reached through the waypoint, by its own address as authority", async () => {
    await using _ = await echoLines(server);
    for (const address of [
      { type: "Hostname", value: "waypoint.shop.svc.cluster.local" },
      { type: "IPAddress", value: waypointVip },
    ]) {
      await gateway(mesh(), "service", address);
      await bindService(mesh(), "waypoint");
      const before = seen().length;
      using peer = await dial(client, vip, 80);
      // the pod sees the waypoint's address, and its certificate
      assert.equal(await peer.ask("hello"), `server ${waypoint.ip} hello`, address.type);
      const request = seen()[before];
      assert.equal(request?.authority, `${vip}:80`);
      assert.equal(request.peer, "URI:spiffe://cluster.local/ns/shop/sa/client");
      assert.match(request.forwarded ?? "", new RegExp(`for="?${client.ip}.*host=server\\.shop`));
      const out = (await tunnels(mesh(), "a")).find((t) => t.direction === "outbound");
      assert.deepEqual(out?.via, { kind: "waypoint", namespace: "shop", name: "waypoint" });
      assert.equal(out.destination.identity, WAYPOINT_SA);
      const into = (await tunnels(mesh(), "b")).find((t) => t.direction === "inbound");
      assert.equal(into?.source.identity, WAYPOINT_SA);
      // addressed by pod, the call is no business of a waypoint for services
      const direct = await tryAsk(client, server.ip);
      assert.equal(direct, `server ${client.ip} hello`);
      assert.equal(seen().length, before + 1);
      await bindService(mesh(), null);
    }
  });

  test("a waypoint for all traffic is used for a pod's own address too", async () => {
    await using _ = await echoLines(server);
    await gateway(mesh(), "all", { type: "IPAddress", value: waypointVip });
    await bindPod(mesh(), "waypoint");
    const before = seen().length;
    assert.equal(await tryAsk(client, server.ip), `server ${waypoint.ip} hello`);
    assert.equal(seen()[before]?.authority, `${server.ip}:8080`);
    await bindPod(mesh(), null);
    assert.equal(await tryAsk(client, server.ip), `server ${client.ip} hello`);
  });

  test("a policy can demand the waypoint: who goes around it is denied", async () => {
    await using _ = await echoLines(server);
    await gateway(mesh(), "service", { type: "IPAddress", value: waypointVip });
    await bindService(mesh(), "waypoint");
    await using policy = await allow(mesh(), "only-waypoint", {
      selector: { matchLabels: { app: "server" } },
      rules: [{ from: [{ source: { principals: [WAYPOINT_SA.replace("spiffe://", "")] } }] }],
    });
    void policy;
    await within("the policy", () => inForce(mesh(), server, "only-waypoint"));
    assert.equal(await tryAsk(client, vip, 80), `server ${waypoint.ip} hello`);
    assert.equal(await tryAsk(client, server.ip), null);
    await bindService(mesh(), null);
    assert.equal(await tryAsk(client, vip, 80), null);
  });

  test("a CONNECT without an answer is given up after 15 s, and its tunnel carries on", async () => {
    await using _ = await echoLines(server);
    await gateway(mesh(), "service", { type: "IPAddress", value: waypointVip });
    await bindService(mesh(), "waypoint");
    using good = await dial(client, vip, 80);
    await good.ask("before");
    const started = performance.now();
    const silent = tryAsk(client, vip, 81, "hello", 25_000);
    assert.equal(await good.ask("meanwhile"), `server ${waypoint.ip} meanwhile`);
    assert.equal(await silent, null);
    const seconds = (performance.now() - started) / 1_000;
    assert.ok(seconds >= 14.9 && seconds < 20, `${seconds} s`);
    const line = await logLine(mesh(), "ztunnel", "a", /reason="connect_timeout"/);
    assert.match(line, /error="[^"]*No answer to CONNECT within 15 s"/);
    assert.equal(await good.ask("after"), `server ${waypoint.ip} after`);
    await bindService(mesh(), null);
  });

  test("a waypoint that shows another identity is refused", async () => {
    await using _ = await echoLines(server);
    // the pod that stands behind this Gateway's address runs under another account than its certificate
    await gateway(mesh(), "service", { type: "IPAddress", value: waypointVip });
    await bindService(mesh(), "waypoint");
    await mesh().node("b").deletePod("shop", "waypoint");
    waypoint = await startWaypoint(mesh(), [`${vip}:80=${server.ip}:8080`], "impostor");
    await within("the impostor is chosen", async () => {
      assert.equal(await tryAsk(client, vip, 80), null);
      return /reason="identity"/.test(await logLine(mesh(), "ztunnel", "a", /dst\.hbone_addr/));
    });
    await logLine(mesh(), "ztunnel", "a", /the peer shows .*sa\/impostor, expected .*sa\/waypoint/);
    assert.equal(seen().length, 0);
  });

  test("without a healthy waypoint the call fails, and is never made around it", async () => {
    await using service = await echoLines(server);
    await using capture = await mesh().link.capture();
    await mesh().node("b").deletePod("shop", "waypoint");
    await knownService(mesh(), "waypoint", 0);
    assert.equal(await tryAsk(client, vip, 80, "AROUND"), null);
    await logLine(mesh(), "ztunnel", "a", /reason="unknown_waypoint"/);
    assert.equal(service.peers.length, 0);
    assert.ok(!(await capture.contains("AROUND")));
    await bindService(mesh(), null);
    assert.notEqual(await tryAsk(client, vip, 80), null);
  });
});

/** The pod is not enrolled: it takes and opens tunnels by itself. */
async function startWaypoint(
  lab: Lab,
  routes: readonly string[],
  account = "waypoint",
): Promise<LabPod> {
  const token = join(lab.dir, `token-${account}`);
  await writeFile(
    token,
    await lab.mesh.issueToken({ namespace: "shop", serviceAccount: account, node: { name: "b" } }),
  );
  return pod(lab, "b", "waypoint", {
    labels: {
      "istio.io/dataplane-mode": "none",
      "gateway.networking.k8s.io/gateway-name": "waypoint",
      "gateway.istio.io/managed": "istio.io-mesh-controller",
    },
    serviceAccount: "waypoint",
    readyPort: 15_008,
    command: [
      process.execPath,
      join(import.meta.dirname, "mesh-waypoint-server.ts"),
      `--ca=https://${ISTIOD_HOST}:15012`,
      `--root=${join(lab.dir, "root-cert.pem")}`,
      `--token=${token}`,
      `--account=shop/${account}`,
      ...routes.map((r) => `--route=${r}`),
    ],
  });
}

async function gateway(
  lab: Lab,
  trafficType: string,
  address: { readonly type: string; readonly value: string },
): Promise<void> {
  const object: Gateway = {
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "Gateway",
    metadata: {
      name: "waypoint",
      namespace: "shop",
      labels: { "istio.io/waypoint-for": trafficType },
    },
    spec: {
      gatewayClassName: "istio-waypoint",
      listeners: [{ name: "mesh", port: 15_008, protocol: "HBONE" }],
    },
    status: { addresses: [address] },
  };
  await lab.cluster.apply(RESOURCES.gateways, object, { fieldManager: "test" });
}

async function bindService(lab: Lab, name: string | null): Promise<void> {
  const labels = { "istio.io/use-waypoint": name };
  const patch = { metadata: { labels } };
  await lab.cluster.patch(RESOURCES.services, "shop", "server", patch, { fieldManager: "test" });
  await within("node a knows the binding", async () => {
    const { services } = await configDump(lab, "a");
    const found = services.find((s) => s.hostname.startsWith("server."));
    return (found?.waypoint !== undefined) === (name !== null);
  });
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

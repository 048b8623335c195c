// The lab itself, without any mesh part: pods talk in clear, the link can be watched and broken.
import assert from "node:assert/strict";
import { test } from "node:test";
import { run } from "../../lab/process.ts";
import { clientEvents, workload } from "../../lab/workloads.ts";
import { ask, clientPod, echoPod, labSandbox, testLab } from "../harness/lab.ts";

const needsLab = await labSandbox();

test("pods on two nodes talk, and the link carries their words in clear", needsLab, async () => {
  const began = performance.now();
  await using lab = await testLab();
  const upMs = performance.now() - began;
  const [client, server] = await Promise.all([
    clientPod(lab, "a", "client"),
    echoPod(lab, "b", "server"),
  ]);
  await using capture = await lab.link.capture();
  assert.equal(
    await ask(client, server.ip, 8080, "MARKER-1234"),
    `server ${client.ip} MARKER-1234 1`,
  );
  assert.ok(await capture.contains("MARKER-1234"));
  assert.ok(!(await capture.contains("MARKER-5678")));
  assert.ok(upMs < 3_000, `lab up in ${upMs} ms`);
});

test("a pod's object has what a kubelet writes", needsLab, async () => {
  await using lab = await testLab({ nodes: ["a"] });
  const pod = await echoPod(lab, "a", "server", "shop");
  const [stored] = await lab.cluster.list(
    { group: "", version: "v1", kind: "Pod", plural: "pods", namespaced: true },
    { namespace: "shop" },
  );
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- listed as Pods
  const object = stored as typeof pod.object;
  assert.equal(object.metadata.uid, pod.uid);
  assert.equal(object.spec?.nodeName, "a");
  assert.equal(object.spec?.serviceAccountName, "server");
  assert.equal(object.status?.phase, "Running");
  assert.equal(object.status?.hostIP, "172.30.0.1");
  assert.deepEqual(object.status?.podIPs, [{ ip: pod.ip }]);
  assert.equal(object.status?.conditions?.find((c) => c.type === "Ready")?.status, "True");
  await pod.check();
  await lab.node("a").deletePod("shop", "server");
  assert.equal(
    await lab.cluster.get(
      { group: "", version: "v1", kind: "Pod", plural: "pods", namespaced: true },
      "shop",
      "server",
    ),
    null,
  );
});

test("service addresses and names reach ready pods, local and remote", needsLab, async () => {
  await using lab = await testLab();
  const [client, near, far] = await Promise.all([
    clientPod(lab, "a", "client", "shop"),
    lab.runPod("a", {
      name: "near",
      namespace: "shop",
      labels: { app: "server" },
      command: workload("echo-server", { name: "near" }),
      readyPort: 8080,
    }),
    lab.runPod("b", {
      name: "far",
      namespace: "shop",
      labels: { app: "server" },
      command: workload("echo-server", { name: "far" }),
      readyPort: 8080,
    }),
  ]);
  const service = await lab.service({
    name: "server",
    namespace: "shop",
    selector: { app: "server" },
    ports: [{ name: "tcp", port: 80, targetPort: 8080 }],
  });
  assert.deepEqual(
    (await lab.waitForEndpoints("shop", "server", 2)).toSorted(),
    [near.ip, far.ip].toSorted(),
  );
  const vip = service.spec?.clusterIP ?? "";
  const { stdout } = await client.exec(
    workload("client", { host: vip, port: 80, count: 24, intervalMs: 0 }),
  );
  const servers = new Set(
    clientEvents(stdout)
      .map((e) => e.answer?.split(" ")[0])
      .filter((s) => s !== undefined),
  );
  assert.deepEqual([...servers].sort(), ["far", "near"]);
  assert.match(
    await ask(client, "server", 80),
    new RegExp(`^(near|far) ${client.ip.replaceAll(".", "\\.")} `),
  );
  assert.match(await ask(client, "server.shop.svc.cluster.local", 80), /^(near|far) /);
  // a pod may reach itself through its service
  assert.match(await ask(near, vip, 80), /^(near|far) /);

  await far.setReady(false);
  assert.deepEqual(await lab.waitForEndpoints("shop", "server", 1), [near.ip]);
  assert.match(await ask(client, vip, 80), /^near /);
  await near.setReady(false);
  await lab.waitForEndpoints("shop", "server", 0);
  await assert.rejects(ask(client, vip, 80), /ECONNREFUSED/);
});

test("a cut link carries nothing, a restored one does", needsLab, async () => {
  await using lab = await testLab();
  const [client, server] = await Promise.all([
    clientPod(lab, "a", "client"),
    echoPod(lab, "b", "server"),
  ]);
  await lab.link.cut("b");
  const cut = await client.exec(
    workload("client", { host: server.ip, port: 8080, count: 1, timeoutMs: 300 }),
  );
  assert.equal(clientEvents(cut.stdout)[0]?.error, "connect timeout");
  await lab.link.restore("b");
  assert.match(await ask(client, server.ip, 8080), /^server /);
});

test("a slow link delays each direction, and large transfers survive it", needsLab, async () => {
  await using lab = await testLab();
  const [client, server] = await Promise.all([
    clientPod(lab, "a", "client"),
    echoPod(lab, "b", "server"),
  ]);
  const roundTrip = async (): Promise<number> => {
    const { stdout } = await client.exec(
      workload("client", { host: server.ip, port: 8080, count: 5, intervalMs: 1, keep: true }),
    );
    return Math.min(
      ...clientEvents(stdout).flatMap((e) =>
        e.n !== undefined && e.n > 1 && e.ms !== undefined ? [e.ms] : [],
      ),
    );
  };
  assert.ok((await roundTrip()) < 20);
  await lab.link.impair("b", { delayMs: 40 });
  const slow = await roundTrip();
  assert.ok(slow >= 78 && slow < 160, `${slow} ms`);
  const answer = await ask(client, server.ip, 8080, "x", 300_000);
  assert.ok(answer.includes("x".repeat(300_000)));
  await lab.link.impair("b", {});
  assert.ok((await roundTrip()) < 20);
});

test("a lossy link loses about as many packets as asked", needsLab, async () => {
  await using lab = await testLab();
  await lab.link.impair("b", { loss: 1 });
  const client = await clientPod(lab, "a", "client");
  const server = await echoPod(lab, "b", "server");
  const lost = await client.exec(
    workload("client", { host: server.ip, port: 8080, count: 1, timeoutMs: 300 }),
  );
  assert.equal(clientEvents(lost.stdout)[0]?.error, "connect timeout");
  await lab.link.impair("b", { loss: 0.05 });
  const answer = await ask(client, server.ip, 8080, "y", 100_000);
  assert.ok(answer.includes("y".repeat(100_000)));
});

test("IPv6 only", needsLab, async () => {
  await using lab = await testLab({ families: "ipv6" });
  const [client, server] = await Promise.all([
    clientPod(lab, "a", "client"),
    echoPod(lab, "b", "server"),
  ]);
  await using capture = await lab.link.capture({ port: "b" });
  assert.match(server.ip, /^fd00:244:2::/);
  assert.equal(await ask(client, server.ip, 8080, "six"), `server ${client.ip} six 1`);
  await lab.service({
    name: "server",
    selector: { app: "server" },
    ports: [{ port: 80, targetPort: 8080 }],
  });
  await lab.waitForEndpoints("default", "server", 1);
  assert.match(await ask(client, "server", 80, "by-name"), /^server /);
  const flows = await capture.flows();
  assert.ok(flows.some((f) => f.src === client.ip && f.dst === server.ip && f.dstPort === 8080));
});

test("dual stack: both families reach the pod and the service", needsLab, async () => {
  await using lab = await testLab({ families: "dual" });
  const [client, server] = await Promise.all([
    clientPod(lab, "a", "client"),
    echoPod(lab, "b", "server"),
  ]);
  const service = await lab.service({
    name: "server",
    selector: { app: "server" },
    ports: [{ port: 80, targetPort: 8080 }],
  });
  await lab.waitForEndpoints("default", "server", 2);
  for (const host of [server.ipv4(), server.ipv6()])
    assert.match(await ask(client, host, 8080), /^server /);
  assert.equal(service.spec?.clusterIPs?.length, 2);
  for (const host of service.spec?.clusterIPs ?? [])
    assert.match(await ask(client, host, 80), /^server /);
});

test(
  "a plugin that refuses keeps the pod from starting and leaves no namespace",
  needsLab,
  async () => {
    await using lab = await testLab({ nodes: ["a"] });
    const node = lab.node("a");
    await node.chainPlugin("no-such-plugin", { type: "no-such-plugin" });
    const before = (await run(["ip", "netns", "list"])).stdout;
    await assert.rejects(clientPod(lab, "a", "client"), /failed to find plugin "no-such-plugin"/);
    assert.equal((await run(["ip", "netns", "list"])).stdout, before);
    await node.chainPlugin("no-such-plugin", null);
    await clientPod(lab, "a", "client");
  },
);

test("nothing is left after a lab", needsLab, async () => {
  const processes = async (): Promise<string> =>
    (await run(["ps", "-eo", "args", "--no-headers"])).stdout
      .split("\n")
      .filter((l) => !/\bps\b/.test(l))
      .sort()
      .join("\n");
  const before = await processes();
  {
    await using lab = await testLab();
    await Promise.all([clientPod(lab, "a", "client"), echoPod(lab, "b", "server")]);
    await using capture = await lab.link.capture();
    await lab.link.impair("a", { delayMs: 5 });
    assert.ok(!(await capture.contains("nothing yet")));
    assert.notEqual(await processes(), before);
  }
  assert.equal((await run(["ip", "netns", "list"])).stdout.trim(), "");
  assert.equal(await processes(), before);
});

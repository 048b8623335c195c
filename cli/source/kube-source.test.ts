// The ztunnels and istiods of a cluster behind forwarded ports: real sockets to servers here instead of pods.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import { connect, type AddressInfo } from "node:net";
import { test } from "node:test";
import type { Pod } from "#lib/kube/objects.ts";
import type { Kube } from "../kube/connect.ts";
import { KubeSource } from "./kube-source.ts";
import { gather } from "./mesh-source.ts";
import { syncStatus } from "./sync-status.ts";

interface PodSpec {
  readonly name: string;
  readonly app: string;
  readonly node: string;
  readonly ready?: boolean;
  readonly leaving?: boolean;
}

const pod = ({ name, app, node, ready = true, leaving = false }: PodSpec): Pod => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: {
    name,
    namespace: "istio-system",
    labels: { app },
    ...(leaving ? { deletionTimestamp: "2026-01-01T00:00:00Z" } : {}),
  },
  spec: { nodeName: node },
  status: { conditions: [{ type: "Ready", status: ready ? "True" : "False" }] },
});

/** @param answer  serves every pod; the pod's name and port come as headers' stand-in: the forwarded target */
async function source(
  pods: readonly PodSpec[],
  answer: (pod: string, port: number) => RequestListener | null,
): Promise<KubeSource & AsyncDisposable> {
  const all = pods.map(pod);
  const cluster = {
    list: async (_: unknown, { labelSelector }: { labelSelector: string }) =>
      all.filter((p) => `app=${p.metadata.labels?.["app"]}` === labelSelector),
  };
  const kube = { cluster, meshNamespace: "istio-system", name: "the test" } as unknown as Kube;
  const servers: ReturnType<typeof createServer>[] = [];
  const result = new KubeSource(kube, async ({ pod: name, port }) => {
    const listener = answer(name, port);
    if (listener === null) throw new Error("the kubelet does not answer");
    const server = createServer(listener).listen(0, "127.0.0.1");
    servers.push(server);
    await once(server, "listening");
    const socket = connect((server.address() as AddressInfo).port, "127.0.0.1");
    await once(socket, "connect");
    return socket;
  });
  return Object.assign(result, {
    async [Symbol.asyncDispose]() {
      for (const s of servers) s.close();
    },
  });
}

const signal = AbortSignal.timeout(10_000);

test("one ztunnel for each node: during a rollout the one that is ready", async () => {
  const asked: string[] = [];
  await using s = await source(
    [
      { name: "z-old", app: "ztunnel", node: "a", leaving: true },
      { name: "z-new", app: "ztunnel", node: "a" },
      { name: "z-b", app: "ztunnel", node: "b", ready: false },
      { name: "z-b2", app: "ztunnel", node: "b" },
    ],
    (name, port) => (request, response) => {
      asked.push(`${name}:${port}${request.url}`);
      response.end("{}");
    },
  );
  const options = { timeoutMs: 5_000, signal };
  const { answers, partial } = await gather(s, "/config_dump", (json) => json.object(), options);
  assert.deepEqual([answers.map((a) => a.node), partial], [["a", "b"], []]);
  assert.deepEqual(asked.sort(), ["z-b2:15000/config_dump", "z-new:15000/config_dump"]);
});

test("a node that cannot be reached, or refuses, is partial; none at all is a failure that says what to look at", async () => {
  const pods = ["a", "b", "c"].map((n) => ({ name: `z-${n}`, app: "ztunnel", node: n }));
  await using s = await source(pods, (name) =>
    name === "z-a"
      ? null
      : (_, response) => {
          if (name === "z-b") response.statusCode = 503;
          response.end(name === "z-b" ? "draining" : "{}");
        },
  );
  const options = { timeoutMs: 5_000, signal };
  const { answers, partial } = await gather(s, "/config_dump", (json) => json.object(), options);
  assert.deepEqual(
    answers.map((a) => a.node),
    ["c"],
  );
  assert.deepEqual(partial, [
    { node: "a", error: "the kubelet does not answer" },
    { node: "b", error: "HTTP 503: draining" },
  ]);
  await using none = await source(pods, () => null);
  await assert.rejects(
    gather(none, "/config_dump", (json) => json.object(), options),
    (error: Error & { hints: string[] }) =>
      /No ztunnel of the test answered/.test(error.message) &&
      error.hints.some((h) => h.startsWith("ambit status")),
  );
});

test("lines arrive as they are written, and an abort ends them", async () => {
  await using s = await source([{ name: "z", app: "ztunnel", node: "a" }], () => (_, response) => {
    response.write('{"seq":1}\n{"seq":2}\n');
  });
  const stop = new AbortController();
  const seen: string[] = [];
  for await (const line of s.lines("a", "/ambit/events", stop.signal)) {
    seen.push(line);
    if (seen.length === 2) stop.abort();
  }
  assert.deepEqual(seen, ['{"seq":1}', '{"seq":2}']);
});

test("sync status is joined over the istiods that answer", async () => {
  await using s = await source(
    [
      { name: "istiod-1", app: "istiod", node: "a" },
      { name: "istiod-2", app: "istiod", node: "b" },
      { name: "istiod-3", app: "istiod", node: "b", ready: false },
    ],
    (name) =>
      name === "istiod-2"
        ? null
        : (_, response) =>
            response.end(
              JSON.stringify([
                {
                  proxy: "ztunnel~10.0.0.1~ztunnel-x.istio-system~istio-system.svc.cluster.local",
                  proxy_type: "ztunnel",
                  address: "SYNCED",
                  authorization: "STALE",
                  last_ack: "2026-01-01T00:00:00Z",
                },
              ]),
            ),
  );
  assert.deepEqual(await syncStatus(s, signal), [
    {
      name: "ztunnel-x",
      namespace: "istio-system",
      kind: "ztunnel",
      istiod: "istiod-1",
      lastAck: "2026-01-01T00:00:00Z",
      types: [
        { type: "address", status: "SYNCED" },
        { type: "authorization", status: "STALE" },
      ],
    },
  ]);
});

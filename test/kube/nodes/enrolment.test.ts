// Pods of a labelled namespace join the mesh as they are, new ones are born into it, policy knows them by their service
// accounts, and without the label nothing of the mesh is left in them. Watched on the link and inside the pods.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import type { TunnelView } from "#lib/model/tunnel.ts";
import { clientEvents, type ClientEvent } from "../../../lab/workloads.ts";
import { cliFor, json } from "../api/cli-run.ts";
import { BUSYBOX_IMAGE } from "../images.ts";
import type { KubeCluster } from "../kube-cluster.ts";
import { kubeSandbox } from "../kube-sandbox.ts";
import { ask, idlePod, service, serviceAccount, workloadPod } from "../mesh.ts";
import {
  accessLog,
  crossed,
  enrol,
  insideOf,
  podsOf,
  startMesh,
  unenrol,
  type AccessLine,
} from "./installed-mesh.ts";

const needs = await kubeSandbox();
let cluster: KubeCluster;
const SHOP = "shop";
const WEB = `web.${SHOP}.svc.cluster.local`;
const client = { namespace: SHOP, name: "client" };
const rival = { namespace: SHOP, name: "rival" };
const identityOf = (account: string): string => `spiffe://cluster.local/ns/${SHOP}/sa/${account}`;

before(async () => {
  if (needs.skip !== undefined) return;
  cluster = await startMesh();
  await cluster.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name: SHOP } });
  await cluster.apply(
    ...["web", "client", "rival", "caller", "newborn"].map((name) => serviceAccount(SHOP, name)),
    service(SHOP, "web"),
    workloadPod({ name: "web", namespace: SHOP, node: "node-b" }),
    idlePod({ ...client, node: "node-a" }),
    // on the server's own node
    idlePod({ ...rival, node: "node-b" }),
  );
  await cluster.waitFor("condition=Ready", SHOP, "pod/web", "pod/client", "pod/rival");
  await cluster.apply(
    // asks all the time, whatever else goes on
    workloadPod({
      name: "caller",
      namespace: SHOP,
      node: "node-a",
      command: ["node", "/workloads/client.ts", `--host=${WEB}`, "--port=80", "--interval-ms=100"],
      probes: {},
    }),
  );
  await cluster.waitFor("condition=Ready", SHOP, "pod/caller");
});
after(() => cluster?.[Symbol.asyncDispose]());

test(
  "labelled and unlabelled, running pods stay the same, and only HBONE crosses the link meanwhile",
  needs,
  async (t) => {
    const born = await podsOf(cluster, SHOP);
    const sameAsBorn = async (): Promise<void> => {
      const now = await podsOf(cluster, SHOP);
      const who = (pods: typeof born): unknown => pods.map((p) => [p.name, p.uid, p.restarts]);
      assert.deepEqual(who(now), who(born));
    };
    for (const pod of born)
      assert.deepEqual(await insideOf(cluster, pod), { rules: [], listeners: [] });
    {
      await using capture = await cluster.capture();
      assert.equal(await answerTo("before"), true);
      const { tunnels, clear } = await crossed(capture, born);
      assert.equal(tunnels.length, 0);
      assert.ok(
        clear.some((f) => f.bytes.includes("before")),
        "readable before",
      );
    }

    t.diagnostic(
      `${born.length} running pods in the mesh ${await enrol(cluster, SHOP)} ms after the label`,
    );
    await untilTunnelled();
    {
      await using capture = await cluster.capture();
      assert.equal(await answerTo("meanwhile"), true);
      await callerHears(5);
      const { tunnels, clear } = await crossed(capture, born);
      assert.deepEqual(
        clear.map((f) => `${f.src} → ${f.dst}:${f.dstPort}`),
        [],
      );
      assert.ok(tunnels.length > 0, "HBONE on the link");
      assert.equal(await capture.contains("meanwhile"), false);
    }
    for (const pod of born) {
      const { rules, listeners } = await insideOf(cluster, pod);
      assert.ok(rules.length > 0 && listeners.length >= 4, `${pod.name}: ${listeners.join()}`);
    }
    await sameAsBorn();

    t.diagnostic(`all out of it ${await unenrol(cluster, SHOP)} ms after the label went`);
    await using capture = await cluster.capture();
    await cluster.until("plain traffic", async () => {
      return (await answerTo("afterwards")) && (await capture.contains("afterwards"));
    });
    await callerHears(5);
    for (const pod of born)
      assert.deepEqual(await insideOf(cluster, pod), { rules: [], listeners: [] });
    await sameAsBorn();
    const events = await callerEvents();
    const failed = events.filter((e) => e.event === "error");
    t.diagnostic(
      `a connection each 100 ms all the while: ${events.filter((e) => e.event === "answer").length} answered, ${failed.length} failed ${failed.map((e) => `${e.error} at ${e.atMs}`).join(", ")}`,
    );
  },
);

test("the server's proxy and the live view know both identities", needs, async () => {
  await enrol(cluster, SHOP);
  await untilTunnelled();
  assert.equal(await answerTo("who-am-i"), true);
  const [web] = await podsOf(cluster, SHOP, "app=web");
  const isOurs = (line: AccessLine): boolean =>
    line["src.workload"] === "client" &&
    line["dst.workload"] === "web" &&
    line["src.identity"] !== undefined;
  await cluster.until("both access logs", async () => {
    const lines = (await accessLog(cluster)).filter(isOurs);
    return new Set(lines.map((l) => l["direction"])).size === 2;
  });
  for (const line of (await accessLog(cluster)).filter(isOurs)) {
    assert.equal(line["src.identity"], identityOf("client"));
    assert.equal(line["dst.identity"], identityOf("web"));
    assert.equal(line["dst.hbone_addr"], `${web?.ips[0]}:8080`);
  }
  // says nothing until it is told to let go
  const hold = `touch /tmp/hold; while [ -e /tmp/hold ]; do sleep 0.2; done | nc ${WEB} 80`;
  const held = cluster.exec(SHOP, "client", ["sh", "-c", hold]);
  let seen: TunnelView[] = [];
  await cluster.until("a connection that stays open to be listed", async () => {
    const { items } = await json<{ items: TunnelView[] }>(
      cliFor(cluster.api),
      `tunnels -n ${SHOP}`,
    );
    seen = items.filter((i) => i.source.pod === "client" || i.source.workload === "client");
    return seen.length > 0;
  });
  for (const tunnel of seen) {
    assert.equal(tunnel.security, "mutual_tls");
    assert.equal(tunnel.source.identity, identityOf("client"));
    assert.equal(tunnel.destination.identity, identityOf("web"));
  }
  await cluster.exec(SHOP, "client", ["rm", "/tmp/hold"]);
  await held;
});

test(
  "whatever a new pod says first is already tunnelled, from its first millisecond on",
  needs,
  async (t) => {
    await enrol(cluster, SHOP);
    const [web] = await podsOf(cluster, SHOP, "app=web");
    const address = web?.ips[0] ?? "";
    await using capture = await cluster.capture();
    // nc speaks within milliseconds of the container's start; by address, and by name through the mesh's DNS
    const shout = (host: string, port: number): string =>
      `echo first-words-of-$HOSTNAME | timeout 10 nc ${host} ${port} || echo failed; exec sleep 1000`;
    const newborns = Array.from({ length: 6 }, (_, i) =>
      newborn(
        `newborn-${i}`,
        i % 2 === 0 ? "node-a" : "node-b",
        i < 4 ? shout(address, 8080) : shout(WEB, 80),
      ),
    );
    await cluster.apply(...newborns);
    const heard = async (): Promise<string[]> =>
      await Promise.all(newborns.map(async (_, i) => (await logsOf(`newborn-${i}`)).trim()));
    await cluster.until("every pod's first words to come back", async () =>
      (await heard()).every((text) => text !== ""),
    );
    const replies = await heard();
    replies.forEach((text, i) => {
      assert.match(text, new RegExp(`^web \\S+ first-words-of-newborn-${i}$`), `newborn-${i}`);
    });
    assert.equal(await capture.contains("first-words"), false);
    const { clear, tunnels } = await crossed(capture, await podsOf(cluster, SHOP));
    assert.deepEqual(
      clear.map((f) => `${f.src} → ${f.dst}:${f.dstPort}`),
      [],
    );
    assert.ok(tunnels.length > 0);
    for (const pod of await podsOf(cluster, SHOP, "app=newborn")) assert.equal(pod.restarts, 0);
    t.diagnostic(
      `${replies.length} new pods on two nodes, each first connection answered through the tunnel`,
    );
    await cluster.kubectl(["delete", "pods", "-n", SHOP, "-l", "app=newborn", "--wait=false"]);
  },
);

test(
  "policy by service account allows one and denies the other, across nodes and on one",
  needs,
  async () => {
    await enrol(cluster, SHOP);
    await untilTunnelled();
    const may = async (who: typeof client): Promise<boolean> =>
      (await ask(cluster, who, WEB, 80, "please")).isAnswer;
    const agrees = (what: string, clientMay: boolean, rivalMay: boolean): Promise<void> =>
      cluster.until(what, async () => {
        const [c, r] = await Promise.all([may(client), may(rival)]);
        return c === clientMay && r === rivalMay;
      });
    await agrees("both served without a policy", true, true);
    await cluster.apply(
      policy("ALLOW", { principals: [identityOf("client").slice("spiffe://".length)] }),
    );
    await agrees("only the client allowed", true, false);
    await cluster.apply(policy("DENY", { serviceAccounts: ["client"] }));
    await agrees("only the client denied", false, true);
    const denied = (await accessLog(cluster)).findLast(
      (l) =>
        l["direction"] === "inbound" && l["src.workload"] === "client" && l["error"] !== undefined,
    );
    assert.match(denied?.["error"] ?? "", /shop\/web/, JSON.stringify(denied));
    await cluster.kubectl(["delete", "authorizationpolicy", "-n", SHOP, "web"]);
    await agrees("both served again", true, true);
  },
);

function policy(action: "ALLOW" | "DENY", source: object): object {
  return {
    apiVersion: "security.istio.io/v1",
    kind: "AuthorizationPolicy",
    metadata: { name: "web", namespace: SHOP },
    spec: { selector: { matchLabels: { app: "web" } }, action, rules: [{ from: [{ source }] }] },
  };
}

function newborn(name: string, nodeName: string, script: string): object {
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name, namespace: SHOP, labels: { app: "newborn" } },
    spec: {
      nodeName,
      serviceAccountName: "newborn",
      terminationGracePeriodSeconds: 0,
      containers: [
        {
          name: "main",
          image: BUSYBOX_IMAGE,
          imagePullPolicy: "Never",
          command: ["sh", "-c", script],
        },
      ],
    },
  };
}

/** Whether the client's words reach the server and come back. */
async function answerTo(words: string): Promise<boolean> {
  const { isAnswer, text } = await ask(cluster, client, WEB, 80, words);
  return isAnswer && text.includes(words);
}

/** The agents' note reaches istiod, and its word the proxies, a moment after the rules are in place. */
async function untilTunnelled(): Promise<void> {
  await cluster.until("client and server to be known as parts of the mesh", async () => {
    await using capture = await cluster.capture();
    return (await answerTo("by-now")) && !(await capture.contains("by-now"));
  });
}

async function callerEvents(): Promise<readonly ClientEvent[]> {
  return clientEvents(await logsOf("caller"));
}

async function callerHears(more: number): Promise<void> {
  const answers = async (): Promise<number> =>
    (await callerEvents()).filter((e) => e.event === "answer").length;
  const sofar = await answers();
  await cluster.until(
    `${more} more answers to the caller`,
    async () => (await answers()) >= sofar + more,
  );
}

async function logsOf(pod: string): Promise<string> {
  return (await cluster.api.kubectl(["logs", "-n", SHOP, pod])).stdout;
}

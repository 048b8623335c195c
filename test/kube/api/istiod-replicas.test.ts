// Two istiods over one API server: they say the same, and one of them writes.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { type Condition, RESOURCES } from "#lib/kube/objects.ts";
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from "#lib/xds/type-urls.ts";
import { ControlPlane } from "../control-plane.ts";
import {
  account,
  type Held,
  IstiodRun,
  namespaced,
  policy,
  put,
  runningPod,
  SYSTEM,
  until,
} from "./istiod-run.ts";

let api: ControlPlane;

before(async () => {
  api = await ControlPlane.start({ crds: ["istio"], auditLog: true });
  await put(api, namespaced(SYSTEM), namespaced("shop"));
  await put(api, account(SYSTEM, "ztunnel"), account("shop", "default"));
});
after(() => api[Symbol.asyncDispose]());

const service = (name: string): object => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name, namespace: "shop", labels: { "istio.io/use-waypoint": "wp" } },
  spec: { selector: { app: name }, ports: [{ name: "http", port: 80 }] },
});
const pod = (i: number): object =>
  runningPod("shop", `web-${i}`, { ip: `10.244.1.${i}`, labels: { app: `web${i % 3}` } });
const DENY = { action: "DENY", rules: [{ from: [{ source: { namespaces: ["x"] } }] }] };

async function conditions(istiod: IstiodRun, name: string): Promise<readonly Condition[]> {
  const found = await istiod.cluster.get(RESOURCES.services, "shop", name);
  return found?.status?.conditions ?? [];
}

test("two replicas that learned of things in another order send the same, byte for byte", async () => {
  await put(api, ...[1, 2, 3].map(pod), service("web0"), policy("shop", "b", DENY));
  await using one = await IstiodRun.start(api, { pod: "istiod-a" });
  await put(
    api,
    ...[9, 4, 6].map(pod),
    service("web2"),
    policy("shop", "a", DENY),
    service("web1"),
  );
  await put(api, ...[5, 7, 8].map(pod), policy("shop", "c", { rules: [{}] }));
  await api.kubectl(["delete", "pod", "web-2", "-n", "shop", "--force", "--grace-period=0"]);
  await using two = await IstiodRun.start(api, { pod: "istiod-b" });
  const all = (held: Held): boolean =>
    held.resources.size >= 14 && held.has("Kubernetes//Pod/shop/web-9") && held.has("shop/c");
  const answers = [];
  for (const istiod of [one, two]) {
    const held = await istiod.xds(ADDRESS_TYPE, AUTHORIZATION_TYPE);
    await until("everything", () => all(held));
    answers.push(Buffer.concat(held.arrived).toString("base64"));
  }
  assert.equal(answers[0], answers[1]);
});

test("one replica writes; when it is gone the other one does", async () => {
  const one = await IstiodRun.start(api, { pod: "istiod-a" });
  await put(api, service("first"));
  await until("a condition", async () => (await conditions(one, "first")).length > 0);
  await using two = await IstiodRun.start(api, { pod: "istiod-b" });
  const leads = (istiod: IstiodRun): unknown[] => istiod.lines("leading").map((l) => l["task"]);
  await until("all of its terms", () => leads(one).length >= 3);
  assert.deepEqual(leads(two), []);
  await one[Symbol.asyncDispose]();
  await put(api, service("second"));
  await until("another's", async () => (await conditions(two, "second")).length > 0);
  await until("all terms", () => leads(two).length >= 3);
});

test("a leader that died without a word is replaced when its term is over, and not before", async () => {
  await using istiod = await IstiodRun.create(api, { pod: "istiod-b" });
  const now = new Date().toISOString().replace("Z", "000Z");
  const { leases } = RESOURCES;
  await istiod.cluster.delete(leases, SYSTEM, "istio-status-leader");
  await istiod.cluster.create(
    leases,
    {
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      metadata: { name: "istio-status-leader", namespace: SYSTEM },
      spec: {
        holderIdentity: "istiod-dead",
        leaseDurationSeconds: 2,
        acquireTime: now,
        renewTime: now,
        leaseTransitions: 0,
      },
    },
    { fieldManager: "test" },
  );
  await istiod.app.start();
  const began = Date.now();
  await put(api, service("third"));
  await until("a condition", async () => (await conditions(istiod, "third")).length > 0);
  assert.ok(Date.now() - began > 800, "its term was respected");
  const lease = await istiod.cluster.get(leases, SYSTEM, "istio-status-leader");
  assert.equal(lease?.spec?.holderIdentity, "istiod-b");
});

test("conditions that hold already are not written again", async () => {
  const writes = async (): Promise<number> =>
    (await api.auditEvents()).filter(
      (event) =>
        event.verb === "patch" &&
        event.objectRef?.subresource === "status" &&
        event.objectRef.resource === "services" &&
        event.stage === "ResponseComplete" &&
        event.userAgent?.startsWith("kubectl") === false,
    ).length;
  const before = await writes();
  assert.ok(before > 0);
  await using istiod = await IstiodRun.start(api, { pod: "istiod-c" });
  await until("its term", () => istiod.lines("leading").length >= 3);
  await put(api, service("last"));
  await until("a condition", async () => (await conditions(istiod, "last")).length > 0);
  assert.equal(await writes(), before + 1);
});

test("a Service's condition is istiod's own, beside those of others", async () => {
  await using istiod = await IstiodRun.start(api, { pod: "istiod-d" });
  await put(api, service("shared"));
  const other = {
    type: "LoadBalancerPortsError",
    status: "True",
    reason: "R",
    message: "",
    lastTransitionTime: "2026-01-01T00:00:00Z",
  };
  await until("ours", async () => (await conditions(istiod, "shared")).length > 0);
  const status = { ...service("shared"), status: { conditions: [other] } };
  await put(api, status);
  await until("both", async () => (await conditions(istiod, "shared")).length === 2);
  const { stdout } = await api.kubectl([
    ..."get service shared -n shop --show-managed-fields -o json".split(" "),
  ]);
  const { metadata } = JSON.parse(stdout) as {
    metadata: { managedFields: { manager: string; operation: string; subresource?: string }[] };
  };
  const own = metadata.managedFields.find((entry) => entry.manager === "istio-ambient-service");
  assert.deepEqual([own?.operation, own?.subresource], ["Apply", "status"]);
  await api.kubectl(["label", "service", "shared", "-n", "shop", "istio.io/use-waypoint-"]);
  await put(api, {
    ...service("shared"),
    metadata: { name: "shared", namespace: "shop", labels: { "istio.io/use-waypoint": "none" } },
  });
  await until("ours goes", async () => {
    const types = (await conditions(istiod, "shared")).map((c) => c.type);
    return types.length === 1 && types[0] === other.type;
  });
});

// Gateways on a real API server: what is made for one, kept, repaired, and said in its status.
// Nodes are missing, so Pods never run: endpoints are written by hand.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { systemClock } from "#lib/base/clock.ts";
import { ApiServerCluster } from "#lib/kube/api-server/api-server-cluster.ts";
import { electLeader } from "#lib/kube/api-server/leader-election.ts";
import { openApiServer } from "#lib/kube/api-server/open-api-server.ts";
import type { KubeObject, Resource } from "#lib/kube/cluster.ts";
import {
  type ConfigMap,
  type EndpointSlice,
  type Gateway,
  type Lease,
  type Pod,
  type PodController,
  RESOURCES,
  type Service,
} from "#lib/kube/objects.ts";
import { createLogger } from "#lib/obs/log.ts";
import { GatewayTasks } from "../../../istiod/gateway/gateway-tasks.ts";
import { SETTINGS } from "../../../istiod/gateway/test-gateway.ts";
import { Metrics } from "../../../istiod/metrics.ts";
import { ControlPlane } from "../control-plane.ts";

const FIELD_MANAGER = "test";
/** What a replica may do: API group, resource, verbs. */
const PERMISSIONS: readonly (readonly [group: string, resource: string, ...verbs: string[]])[] = [
  ["", "namespaces", "list", "watch"],
  ["", "configmaps", "list", "watch"],
  ["", "services", "get", "list", "watch", "create", "patch"],
  ["", "serviceaccounts", "get", "list", "watch", "create", "patch"],
  ["apps", "deployments", "get", "list", "watch", "create", "patch"],
  ["autoscaling", "horizontalpodautoscalers", "get", "list", "watch", "create", "patch"],
  ["policy", "poddisruptionbudgets", "get", "list", "watch", "create", "patch"],
  ["discovery.k8s.io", "endpointslices", "list", "watch"],
  ["apiextensions.k8s.io", "customresourcedefinitions", "list", "watch"],
  ["gateway.networking.k8s.io", "gatewayclasses", "list", "watch", "create"],
  ["gateway.networking.k8s.io", "gatewayclasses/status", "patch"],
  ["gateway.networking.k8s.io", "gateways", "get", "list", "watch", "patch"],
  ["gateway.networking.k8s.io", "gateways/status", "patch"],
];
const LOCKS = ["coordination.k8s.io", "leases", "get", "create", "update", "patch"] as const;
const ACCOUNT = { namespace: "istio-system", name: "istiod" };
const log = createLogger({ scope: "test", level: "error", format: "plain" });
const timing = { durationMs: 2_000, renewDeadlineMs: 1_500, retryMs: 200 };

let api: ControlPlane;
let cluster: ApiServerCluster;
const owned = new AsyncDisposableStack();

before(async () => {
  const serviceCidrs = ["10.96.0.0/16", "fd00:96::/112"];
  api = owned.use(await ControlPlane.start({ auditLog: true, serviceCidrs }));
  const server = owned.use(await openApiServer({ kubeconfig: api.kubeconfig }));
  cluster = new ApiServerCluster(server, { log });
  for (const name of ["istio-system", "shop", "other"])
    await put(RESOURCES.namespaces, { apiVersion: "v1", kind: "Namespace", metadata: { name } });
  const rbac = "rbac.authorization.k8s.io";
  await put(RESOURCES.clusterRoles, {
    apiVersion: `${rbac}/v1`,
    kind: "ClusterRole",
    metadata: { name: "gateways" },
    rules: [...PERMISSIONS, LOCKS].map(([group, resource, ...verbs]) => ({
      apiGroups: [group],
      resources: [resource],
      verbs,
    })),
  });
  await put(RESOURCES.clusterRoleBindings, {
    apiVersion: `${rbac}/v1`,
    kind: "ClusterRoleBinding",
    metadata: { name: "gateways" },
    roleRef: { apiGroup: rbac, kind: "ClusterRole", name: "gateways" },
    subjects: [{ kind: "ServiceAccount", ...ACCOUNT }],
  });
});
after(() => owned.disposeAsync());

/** What one istiod runs of this: watches, and the elections of its leader tasks. */
class Replica implements AsyncDisposable {
  readonly leads = new Set<string>();
  readonly #stop = new AbortController();
  readonly #ended: Promise<unknown>;

  private constructor(tasks: GatewayTasks, mine: ApiServerCluster, identity: string) {
    const { signal } = this.#stop;
    const elections = tasks.leaderTasks.map((task) =>
      electLeader({
        cluster: mine,
        namespace: "istio-system",
        name: task.lock,
        identity,
        signal,
        timing,
        log,
        onLead: async (term) => {
          this.leads.add(task.lock);
          await task.lead(term);
          this.leads.delete(task.lock);
        },
      }),
    );
    this.#ended = Promise.all([tasks.run(signal), ...elections]);
  }

  static async start(identity: string): Promise<Replica> {
    const userAgent = `replica-${identity}`;
    const kubeconfig = await api.userKubeconfig({ serviceAccount: ACCOUNT });
    const server = owned.use(await openApiServer({ kubeconfig, userAgent }));
    const mine = new ApiServerCluster(server, { log });
    const tasks = new GatewayTasks({
      cluster: mine,
      api: mine,
      settings: () => SETTINGS,
      program: { image: "ambit:dev", imagePullPolicy: "Never" },
      pod: { namespace: "istio-system", name: identity },
      isSelected: () => true,
      metrics: new Metrics("test"),
      log,
      clock: systemClock,
    });
    return owned.use(new Replica(tasks, mine, identity));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#ended;
  }
}

function put<T extends KubeObject>(resource: Resource<T>, object: T): Promise<T> {
  return cluster.apply(resource, object, { fieldManager: FIELD_MANAGER });
}

/** Asks until the answer is one. */
async function until<T>(
  what: string,
  ask: () => Promise<T | null | undefined | false>,
  timeoutMs = 20_000,
): Promise<T> {
  for (const end = Date.now() + timeoutMs; Date.now() < end; await sleep(25)) {
    const answer = await ask();
    if (answer !== null && answer !== undefined && answer !== false) return answer;
  }
  throw new Error(`Waited ${timeoutMs} ms for ${what}`);
}

function gateway(name: string, given: Partial<Gateway> = {}): Gateway {
  return {
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "Gateway",
    metadata: { name, namespace: "shop", ...given.metadata },
    spec: {
      gatewayClassName: "istio-waypoint",
      listeners: [{ name: "mesh", port: 15008, protocol: "HBONE" }],
      ...given.spec,
    },
  };
}

function slice(service: string, ready: boolean): EndpointSlice {
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: {
      name: `${service}-1`,
      namespace: "shop",
      labels: { "kubernetes.io/service-name": service },
    },
    addressType: "IPv4",
    ports: [{ name: "mesh", port: 15008, protocol: "TCP" }],
    endpoints: [{ addresses: ["10.244.0.9"], conditions: { ready } }],
  };
}

const shop = <T extends KubeObject>(resource: Resource<T>, name: string): Promise<T | null> =>
  cluster.get(resource, "shop", name);

async function condition(name: string, type: string): Promise<string> {
  const live = await shop(RESOURCES.gateways, name);
  const c = live?.status?.conditions?.find((x) => x.type === type);
  return `${c?.status}/${c?.reason}`;
}

const programmed = (name: string): Promise<true> =>
  until(
    `${name} programmed`,
    async () => (await condition(name, "Programmed")) === "True/Programmed",
  );

let first: Replica;

test("without the Gateway API nothing happens; its CRDs installed later wake everything", async () => {
  first = await Replica.start("first");
  await until("leading", async () => first.leads.size === 2);
  await api.applyCrds("gateway-api");
  // The collector looks for new kinds twice a minute: it starts knowing them.
  await api.controllerManager(["garbage-collector-controller"]);
  const made = await until("the class", () =>
    cluster.get(RESOURCES.gatewayClasses, null, "istio-waypoint"),
  );
  assert.equal(made.spec?.controllerName, "istio.io/mesh-controller");
  await until("its condition", async () => {
    const { stdout } = await api.kubectl([
      ...["get", "gatewayclass", "istio-waypoint", "-o"],
      'jsonpath={.status.conditions[?(@.type=="Accepted")].status}',
    ]);
    return stdout === "True";
  });
  await cluster.delete(RESOURCES.gatewayClasses, null, "istio-waypoint");
  const again = await until("the class again", () =>
    cluster.get(RESOURCES.gatewayClasses, null, "istio-waypoint"),
  );
  assert.notEqual(again.metadata.uid, made.metadata.uid);
});

test("a Gateway becomes ServiceAccount, Deployment and Service, and nothing else", async () => {
  const made = await put(
    RESOURCES.gateways,
    gateway("waypoint", {
      metadata: { name: "waypoint", labels: { team: "checkout" } },
    } as Partial<Gateway>),
  );
  const service = await until("the Service", () => shop(RESOURCES.services, "waypoint"));
  const deployment = await until("the Deployment", () => shop(RESOURCES.deployments, "waypoint"));
  const account = await until("the account", () => shop(RESOURCES.serviceAccounts, "waypoint"));
  for (const child of [service, deployment, account]) {
    assert.equal(child.metadata.labels?.["gateway.istio.io/managed"], "istio.io-mesh-controller");
    assert.equal(child.metadata.labels?.["team"], "checkout");
    assert.equal(child.metadata.ownerReferences?.[0]?.uid, made.metadata.uid);
  }
  assert.deepEqual(
    service.spec?.ports?.map((p) => [p.name, p.port, p.appProtocol]),
    [
      ["status-port", 15021, "tcp"],
      ["mesh", 15008, "hbone"],
    ],
  );
  assert.equal(deployment.spec?.template?.spec?.containers?.[0]?.image, "ambit:dev");
  const managers = await api.kubectl([
    ...["get", "service", "waypoint", "-n", "shop", "--show-managed-fields", "-o"],
    "jsonpath={.metadata.managedFields[*].manager}",
  ]);
  assert.match(managers.stdout, /istio\.io\/gateway-controller/);
  assert.equal(await shop(RESOURCES.horizontalPodAutoscalers, "waypoint"), null);
  assert.equal(await shop(RESOURCES.podDisruptionBudgets, "waypoint"), null);
  const marked = await until("the version", async () => {
    const live = await shop(RESOURCES.gateways, "waypoint");
    return live?.metadata.annotations?.["gateway.istio.io/controller-version"];
  });
  assert.equal(marked, "5");
});

test("its Pods are admitted where nothing but the strictest is", async () => {
  const deployment = await shop(RESOURCES.deployments, "waypoint");
  const labels = { "pod-security.kubernetes.io/enforce": "restricted" };
  await cluster.patch(
    RESOURCES.namespaces,
    null,
    "shop",
    { metadata: { labels } },
    {
      fieldManager: FIELD_MANAGER,
    },
  );
  const { metadata, spec } = deployment?.spec?.template ?? {};
  const pod: Pod = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "probe", namespace: "shop", ...metadata },
    ...(spec === undefined ? {} : { spec }),
  };
  const options = { fieldManager: FIELD_MANAGER, dryRun: true };
  const admitted = await cluster.create(RESOURCES.pods, pod, options);
  assert.equal(admitted.spec?.serviceAccountName, "waypoint");
  const wrong = { ...pod, spec: { ...pod.spec, hostNetwork: true } };
  await assert.rejects(cluster.create(RESOURCES.pods, wrong, options), /restricted/);
});

test("no address before an endpoint is ready, and none taken back", async () => {
  await until(
    "waiting for endpoints",
    async () => (await condition("waypoint", "Programmed")) === "False/AddressNotAssigned",
  );
  assert.equal(await condition("waypoint", "Accepted"), "True/Accepted");
  await put(RESOURCES.endpointSlices, slice("waypoint", false));
  await put(RESOURCES.endpointSlices, slice("waypoint", true));
  await programmed("waypoint");
  const live = await shop(RESOURCES.gateways, "waypoint");
  const service = await shop(RESOURCES.services, "waypoint");
  const addresses = [
    ...(service?.spec?.clusterIPs ?? []).map((value) => ({ type: "IPAddress", value })),
    { type: "Hostname", value: "waypoint.shop.svc.cluster.local" },
  ];
  assert.equal(addresses.length, 3, "both families and the host name");
  assert.deepEqual(live?.status?.addresses, addresses);
  const [listener] = live?.status?.listeners ?? [];
  assert.equal(listener?.name, "mesh");
  assert.deepEqual(
    listener?.conditions.map((c) => `${c.type}=${c.status}`),
    ["Accepted=True", "Conflicted=False", "Programmed=True", "ResolvedRefs=True"],
  );
  await put(RESOURCES.endpointSlices, slice("waypoint", false));
  await until(
    "no longer programmed",
    async () => (await condition("waypoint", "Programmed")) === "False/AddressNotAssigned",
  );
  assert.deepEqual((await shop(RESOURCES.gateways, "waypoint"))?.status?.addresses, addresses);
});

test("an edited field comes back, a deleted object too; what is not ours stays", async () => {
  const patch = { spec: { selector: { app: "elsewhere" } }, metadata: { labels: { own: "kept" } } };
  await cluster.patch(RESOURCES.services, "shop", "waypoint", patch, {
    fieldManager: FIELD_MANAGER,
  });
  const scaled = { spec: { replicas: 3, template: { spec: { serviceAccountName: "default" } } } };
  await cluster.patch(RESOURCES.deployments, "shop", "waypoint", scaled, {
    fieldManager: FIELD_MANAGER,
  });
  await cluster.delete(RESOURCES.serviceAccounts, "shop", "waypoint");
  await until("the account again", () => shop(RESOURCES.serviceAccounts, "waypoint"));
  await until("the selector again", async () => {
    const spec = (await shop(RESOURCES.services, "waypoint"))?.spec;
    return spec?.selector?.["gateway.networking.k8s.io/gateway-name"] === "waypoint";
  });
  const deployment = await until("the account's name again", async () => {
    const live: PodController | null = await shop(RESOURCES.deployments, "waypoint");
    return live?.spec?.template?.spec?.serviceAccountName === "waypoint" && live;
  });
  assert.equal(deployment.spec?.replicas, 3);
  const service = await shop(RESOURCES.services, "waypoint");
  assert.equal(service?.metadata.labels?.["own"], "kept");
});

test("a Service that was there before, without our label, is not touched", async () => {
  const before: Service = {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "taken", namespace: "shop" },
    spec: { selector: { app: "mine" }, ports: [{ port: 80, protocol: "TCP" }] },
  };
  const { metadata } = await put(RESOURCES.services, before);
  await put(RESOURCES.gateways, gateway("taken"));
  await until("the Deployment", () => shop(RESOURCES.deployments, "taken"));
  await until(
    "the status",
    async () => (await condition("taken", "Programmed")) === "False/AddressNotUsable",
  );
  const live = await shop(RESOURCES.services, "taken");
  assert.equal(live?.metadata.resourceVersion, metadata.resourceVersion);
});

test("overlays: HPA and PDB only with one, a change is followed, a bad one is named and does nothing", async () => {
  const options = (data: Record<string, string>): ConfigMap => ({
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: "options", namespace: "shop" },
    data,
  });
  const infrastructure = { parametersRef: { group: "", kind: "ConfigMap", name: "options" } };
  await put(RESOURCES.gateways, gateway("tuned", { spec: { infrastructure } } as Partial<Gateway>));
  await until(
    "parameters missed",
    async () => (await condition("tuned", "Accepted")) === "False/InvalidParameters",
  );
  assert.equal(await shop(RESOURCES.deployments, "tuned"), null);
  await put(
    RESOURCES.configMaps,
    options({
      horizontalPodAutoscaler: "spec: {maxReplicas: 5}",
      podDisruptionBudget: "spec: {minAvailable: 1}",
      deployment:
        "spec: {template: {spec: {containers: [{name: istio-proxy, env: [{name: LOG_LEVEL, value: debug}]}]}}}",
    }),
  );
  const hpa = await until("the HPA", () => shop(RESOURCES.horizontalPodAutoscalers, "tuned"));
  assert.equal(hpa.spec?.maxReplicas, 5);
  assert.equal(hpa.spec?.scaleTargetRef?.name, "tuned");
  await until("the PDB", () => shop(RESOURCES.podDisruptionBudgets, "tuned"));
  const deployment = await until("the Deployment", () => shop(RESOURCES.deployments, "tuned"));
  const env = deployment.spec?.template?.spec?.containers?.[0]?.env ?? [];
  assert(env.some((e) => e.name === "LOG_LEVEL") && env.some((e) => e.name === "XDS_ADDRESS"));
  assert.equal(await condition("tuned", "Accepted"), "True/Accepted");
  await put(RESOURCES.configMaps, options({ service: "metadata: {name: other}" }));
  await until(
    "the bad overlay",
    async () => (await condition("tuned", "Accepted")) === "False/InvalidParameters",
  );
  const live = await shop(RESOURCES.gateways, "tuned");
  assert.match(
    live?.status?.conditions?.find((c) => c.type === "Accepted")?.message ?? "",
    /ConfigMap shop\/options, service: metadata\.name cannot be changed/,
  );
  assert.notEqual(await shop(RESOURCES.services, "tuned"), null);
  await put(RESOURCES.configMaps, options({ horizontalPodAutoscaler: "spec: {maxReplicas: 6}" }));
  await until("the better overlay", async () => {
    const live = await shop(RESOURCES.horizontalPodAutoscalers, "tuned");
    return live?.spec?.maxReplicas === 6;
  });
});

test("hands off: other classes, other revisions, higher versions, addresses of somebody else", async () => {
  const own = { gatewayClassName: "other" };
  await put(RESOURCES.gateways, gateway("foreign", { spec: own } as Partial<Gateway>));
  const labels = { "istio.io/rev": "canary" };
  await put(RESOURCES.gateways, gateway("canary", { metadata: { name: "canary", labels } }));
  const annotations = { "gateway.istio.io/controller-version": "6" };
  await put(RESOURCES.gateways, gateway("newer", { metadata: { name: "newer", annotations } }));
  const addresses = [{ type: "Hostname", value: "waypoint" }];
  await put(RESOURCES.gateways, gateway("manual", { spec: { addresses } } as Partial<Gateway>));
  await put(RESOURCES.endpointSlices, slice("waypoint", true));
  await programmed("manual");
  for (const name of ["foreign", "canary", "newer", "manual"])
    assert.equal(await shop(RESOURCES.deployments, name), null, name);
  assert.equal(await condition("foreign", "Accepted"), "Unknown/Pending");
  assert.equal(await condition("canary", "Accepted"), "Unknown/Pending");
});

test("two Gateways that ask for one name: the first has it, the other waits until it is gone", async () => {
  const annotations = { "gateway.istio.io/name-override": "shared" };
  await put(RESOURCES.gateways, gateway("one", { metadata: { name: "one", annotations } }));
  await until("its Service", () => shop(RESOURCES.services, "shared"));
  await put(RESOURCES.gateways, gateway("two", { metadata: { name: "two", annotations } }));
  await until(
    "the refusal",
    async () => (await condition("two", "Accepted")) === "False/InvalidParameters",
  );
  const owner = async (): Promise<string | undefined> =>
    (await shop(RESOURCES.services, "shared"))?.metadata.ownerReferences?.[0]?.name;
  assert.equal(await owner(), "one");
  await cluster.delete(RESOURCES.gateways, "shop", "one");
  await until("the other's turn", async () => (await owner()) === "two");
  await until(
    "its acceptance",
    async () => (await condition("two", "Accepted")) === "True/Accepted",
  );
});

test("two replicas, one leader; the other takes over, and nothing is written anew", async () => {
  const second = await Replica.start("second");
  const holder = async (): Promise<string | undefined> => {
    const lock = "istio-gateway-deployment-default";
    const lease: Lease | null = await cluster.get(RESOURCES.leases, "istio-system", lock);
    return lease?.spec?.holderIdentity;
  };
  assert.equal(await holder(), "first");
  assert.equal(second.leads.size, 0);
  const versions = async (): Promise<(string | undefined)[]> =>
    Promise.all(
      [
        RESOURCES.services,
        RESOURCES.deployments,
        RESOURCES.serviceAccounts,
        RESOURCES.gateways,
      ].map(async (r) => (await shop<KubeObject>(r, "waypoint"))?.metadata.resourceVersion),
    );
  const before = await versions();
  await first[Symbol.asyncDispose]();
  await until("the second leads", async () => second.leads.size === 2);
  assert.equal(await holder(), "second");
  await put(RESOURCES.gateways, gateway("later"));
  await until("its Service", () => shop(RESOURCES.services, "later"));
  assert.deepEqual(await versions(), before);
});

test("a deleted Gateway takes what was made for it along", async () => {
  await cluster.delete(RESOURCES.gateways, "shop", "waypoint");
  for (const resource of [RESOURCES.services, RESOURCES.deployments, RESOURCES.serviceAccounts])
    await until(
      `${resource.kind} collected`,
      async () => (await shop<KubeObject>(resource, "waypoint")) === null,
    );
});

test("at rest nothing is asked but watches and leases", async () => {
  const asked = async (): Promise<string[]> =>
    (await api.auditEvents())
      .filter((e) => e.userAgent?.startsWith("replica-second") === true)
      .filter((e) => e.verb !== "watch" && e.objectRef?.resource !== "leases")
      .map((e) => `${e.verb} ${e.requestURI}`);
  await until("quiet", async () => {
    const count = (await asked()).length;
    await sleep(300);
    return (await asked()).length === count;
  });
  const before = await asked();
  // What controllers report of what was made is no reason to write.
  for (const resource of [RESOURCES.deployments, RESOURCES.horizontalPodAutoscalers] as Resource[])
    await cluster.patch(
      resource,
      "shop",
      "tuned",
      { status: { currentReplicas: 2, replicas: 2 } },
      {
        fieldManager: FIELD_MANAGER,
        subresource: "status",
      },
    );
  await sleep(1_000);
  assert.deepEqual((await asked()).slice(before.length), []);
});

test("every permission granted was used, and none was missing", async () => {
  const used = new Set<string>();
  for (const event of await api.auditEvents()) {
    const { userAgent = "", verb, objectRef, responseStatus } = event;
    if (!userAgent.startsWith("replica-") || objectRef?.resource === undefined) continue;
    assert.notEqual(responseStatus?.code, 403, `${verb} ${event.requestURI}`);
    const { resource, subresource, apiGroup = "" } = objectRef;
    const what = subresource === undefined ? resource : `${resource}/${subresource}`;
    used.add(`${apiGroup}/${what} ${verb}`);
  }
  const granted = PERMISSIONS.flatMap(([group, resource, ...verbs]) =>
    // An apply that creates is a patch in the log.
    verbs
      .filter((v) => v !== "create" || resource === "gatewayclasses")
      .map((v) => `${group}/${resource} ${v}`),
  );
  const isLock = (entry: string): boolean => entry.startsWith("coordination.k8s.io/");
  assert.deepEqual([...used].filter((e) => !isLock(e)).toSorted(), granted.toSorted());
});

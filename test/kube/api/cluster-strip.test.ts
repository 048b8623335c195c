// What a watch keeps of an object is all that translation reads: the tables made of a stripped object and
// of the whole one are the same. The objects are as a real API server completes them.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { about, type ApiServer } from "#lib/kube/api-server/api-server.ts";
import { openApiServer } from "#lib/kube/api-server/open-api-server.ts";
import { strip } from "#lib/kube/api-server/strip.ts";
import type { KubeObject, Resource } from "#lib/kube/cluster.ts";
import type { JsonObject } from "#lib/kube/json.ts";
import { RESOURCES } from "#lib/kube/objects.ts";
import { parseObject } from "#lib/kube/parse-object.ts";
import * as reduce from "../../../istiod/translate/reduce.ts";
import { ControlPlane } from "../control-plane.ts";

const NAMESPACE = "/api/v1/namespaces/shop";
let plane: ControlPlane;
let api: ApiServer;

before(async () => {
  plane = await ControlPlane.start({ flags: ["--disable-admission-plugins=ServiceAccount"] });
  api = await openApiServer({ kubeconfig: plane.kubeconfig });
  await send("POST", "/api/v1/namespaces", {
    metadata: {
      name: "shop",
      labels: { "istio.io/dataplane-mode": "ambient" },
      annotations: { "networking.istio.io/traffic-distribution": "PreferClose", note: "x" },
    },
  });
});
after(async () => {
  api[Symbol.dispose]();
  await plane[Symbol.asyncDispose]();
});

async function send(method: "GET" | "POST" | "PATCH", path: string, body?: object) {
  const contentType = method === "PATCH" ? "application/merge-patch+json" : "application/json";
  const given = body === undefined ? {} : { body, contentType };
  const answer = await api.request({ method, path, ...given, subject: about(method, path) });
  return answer as JsonObject;
}

/** As a list gives it: without `apiVersion` and `kind`. */
async function stored(path: string): Promise<JsonObject> {
  const { apiVersion: _, kind: __, ...item } = await send("GET", path);
  return item;
}

function bothWays<T extends KubeObject>(
  resource: Resource<T>,
  item: JsonObject,
  translate: (object: T) => unknown,
): void {
  const { group, version, kind } = resource;
  const apiVersion = group === "" ? version : `${group}/${version}`;
  const whole = parseObject(structuredClone({ apiVersion, kind, ...item })) as T;
  const lean = parseObject(strip(resource, structuredClone(item))) as T;
  assert.deepEqual(translate(lean), translate(whole));
  const sizes = [lean, whole].map((object) => JSON.stringify(object).length);
  assert.ok((sizes[0] ?? 0) < (sizes[1] ?? 0), `${kind}: ${sizes.join(" of ")} bytes are kept`);
}

test("Pods", async () => {
  const port = (name: string, containerPort: number) => ({ name, containerPort });
  await send("POST", `${NAMESPACE}/pods`, {
    metadata: {
      name: "web-1",
      generateName: "web-",
      labels: { app: "web", "topology.istio.io/network": "n1" },
      annotations: { "ambient.istio.io/redirection": "enabled" },
      ownerReferences: [
        {
          apiVersion: "apps/v1",
          kind: "ReplicaSet",
          name: "web-7d4b",
          uid: "1-2",
          controller: true,
        },
      ],
    },
    spec: {
      serviceAccountName: "web",
      nodeName: "a",
      hostname: "first",
      subdomain: "web",
      initContainers: [
        { name: "once", image: "x", ports: [port("no", 1)] },
        { name: "side", image: "x", restartPolicy: "Always", ports: [port("side", 9090)] },
      ],
      containers: [{ name: "app", image: "x", ports: [port("http", 8080)], env: [{ name: "A" }] }],
    },
  });
  const bare = await stored(`${NAMESPACE}/pods/web-1`);
  bothWays(RESOURCES.pods, bare, reduce.pod);
  await send("PATCH", `${NAMESPACE}/pods/web-1/status`, {
    status: {
      phase: "Running",
      podIP: "10.244.0.5",
      podIPs: [{ ip: "10.244.0.5" }, { ip: "fd00:244::5" }],
      hostIP: "172.30.0.1",
      conditions: [
        {
          type: "Ready",
          status: "True",
          lastTransitionTime: "2026-01-01T00:00:00Z",
          lastProbeTime: null,
        },
      ],
      containerStatuses: [
        {
          name: "app",
          ready: true,
          restartCount: 0,
          image: "x",
          imageID: "x",
          state: { running: {} },
        },
      ],
    },
  });
  bothWays(RESOURCES.pods, await stored(`${NAMESPACE}/pods/web-1`), reduce.pod);
});

test("Nodes, Namespaces and EndpointSlices", async () => {
  await send("POST", "/api/v1/nodes", {
    metadata: {
      name: "a",
      labels: { "topology.kubernetes.io/region": "r", "topology.kubernetes.io/zone": "z" },
    },
    spec: { podCIDR: "10.244.0.0/24" },
  });
  await send("PATCH", "/api/v1/nodes/a/status", {
    status: {
      addresses: [{ type: "InternalIP", address: "172.30.0.1" }],
      capacity: { cpu: "4" },
      images: [{ names: ["x"], sizeBytes: 1 }],
    },
  });
  bothWays(RESOURCES.nodes, await stored("/api/v1/nodes/a"), reduce.node);
  bothWays(RESOURCES.namespaces, await stored(NAMESPACE), reduce.namespace);
  const slices = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";
  await send("POST", slices, {
    metadata: { name: "web-x", labels: { "kubernetes.io/service-name": "web" } },
    addressType: "IPv4",
    ports: [{ name: "http", port: 8080, protocol: "TCP" }],
    endpoints: [
      {
        addresses: ["10.244.0.5"],
        conditions: { ready: true, serving: true, terminating: false },
        nodeName: "a",
        zone: "z",
        targetRef: { kind: "Pod", name: "web-1", namespace: "shop", uid: "u" },
      },
      { addresses: ["10.244.0.6"], conditions: { ready: false } },
    ],
  });
  bothWays(RESOURCES.endpointSlices, await stored(`${slices}/web-x`), reduce.endpointSlice);
});

test("kinds without a table keep all but what the server keeps for itself", async () => {
  await send("POST", `${NAMESPACE}/services`, {
    metadata: {
      name: "web",
      annotations: { "kubectl.kubernetes.io/last-applied-configuration": "{}" },
    },
    spec: { selector: { app: "web" }, ports: [{ port: 80, targetPort: "http" }] },
  });
  const item = await stored(`${NAMESPACE}/services/web`);
  bothWays(RESOURCES.services, item, reduce.service);
  assert.deepEqual(strip(RESOURCES.services, item).spec, item.spec);
});

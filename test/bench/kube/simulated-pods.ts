// Simulated pods on a real API server. One is written as a kubelet would leave it; the others are its copies, put into
// etcd beside it: a hundred thousand in the time the API server would take for a thousand.
import { randomUUID } from "node:crypto";
import type { ApiRequester } from "../../kube/api-request.ts";

const NAMESPACES = 10;
const NODES = 100;
/** etcd takes 128 at once. */
const BATCH = 100;
const MERGE = "application/merge-patch+json";
/** Of the pod that is copied. Copies have values of the same length, so that stored bytes can be replaced. */
const MODEL = {
  namespace: "team-z",
  app: "app-zzzzz",
  name: "app-zzzzz-7d9f8c6b5-yyyyy",
  node: "node-ww",
  hostIp: "172.16.199.199",
  ip: "10.199.199.199",
} as const;

export interface SimulatedPodsOptions {
  readonly pods: number;
  readonly services: number;
  readonly etcdUrl: string;
}

/** Borrows the requester. */
export class SimulatedPods {
  readonly count: number;
  readonly #options: SimulatedPodsOptions;
  readonly #api: ApiRequester;

  constructor(api: ApiRequester, options: SimulatedPodsOptions) {
    this.count = options.pods;
    this.#api = api;
    this.#options = options;
  }

  /** Addresses a proxy is told of. */
  get resources(): number {
    return this.#options.pods + this.#options.services;
  }

  /** Namespaces, Services, and pods with status, spread evenly. */
  async create(): Promise<void> {
    const { pods, services } = this.#options;
    for (const name of [MODEL.namespace, ...range(NAMESPACES).map((n) => `team-${n}`)])
      await this.#send("POST", "/api/v1/namespaces", { metadata: { name } });
    for (const s of range(services))
      await this.#send("POST", `/api/v1/namespaces/${namespaceOf(s)}/services`, {
        metadata: { name: appOf(s) },
        spec: {
          selector: { app: appOf(s) },
          ports: [{ name: "http", port: 80, targetPort: 8080 }],
        },
      });
    const { uid, bytes } = await this.#storeModel();
    for (let from = 0; from < pods; from += BATCH) {
      const until = Math.min(pods, from + BATCH);
      const batch = range(until - from).map((i) => this.#copy(from + i, uid, bytes));
      await this.#etcd("txn", { success: batch.map((requestPut) => ({ requestPut })) });
    }
    await this.#send("DELETE", modelPath, { gracePeriodSeconds: 0 });
  }

  /** Another label value of one pod: what a client must hear of. */
  async change(i: number, revision: string): Promise<void> {
    const service = i % this.#options.services;
    const path = `/api/v1/namespaces/${namespaceOf(service)}/pods/${podName(i, service)}`;
    const labels = { "service.istio.io/canonical-revision": revision };
    await this.#send("PATCH", path, { metadata: { labels } });
  }

  /** Through the API server, with all that it adds. Resolves with what is stored. */
  async #storeModel(): Promise<{ uid: string; bytes: string }> {
    await this.#send("POST", `/api/v1/namespaces/${MODEL.namespace}/pods`, model());
    const stored = await this.#send("PATCH", `${modelPath}/status`, modelStatus());
    const { uid } = (JSON.parse(stored) as { metadata: { uid: string } }).metadata;
    const key = base64(`/registry/pods/${MODEL.namespace}/${MODEL.name}`);
    const { kvs } = (await this.#etcd("range", { key })) as { kvs: { value: string }[] };
    return { uid, bytes: Buffer.from(kvs[0]?.value ?? "", "base64").toString("latin1") };
  }

  #copy(i: number, modelUid: string, model: string): { key: string; value: string } {
    const service = i % this.#options.services;
    const name = podName(i, service);
    const node = i % NODES;
    const replaced = model
      .replaceAll(modelUid, randomUUID())
      .replaceAll(MODEL.namespace, namespaceOf(service))
      .replaceAll(MODEL.name, name)
      .replaceAll(MODEL.app, appOf(service))
      .replaceAll(MODEL.node, `node-${String(node).padStart(2, "0")}`)
      .replaceAll(MODEL.hostIp, `172.16.100.${100 + node}`)
      .replaceAll(MODEL.ip, ipOf(i));
    return {
      key: base64(`/registry/pods/${namespaceOf(service)}/${name}`),
      value: Buffer.from(replaced, "latin1").toString("base64"),
    };
  }

  async #etcd(call: "range" | "txn", body: object): Promise<unknown> {
    const url = `${this.#options.etcdUrl}/v3/kv/${call}`;
    const response = await fetch(url, { method: "POST", body: JSON.stringify(body) });
    if (!response.ok) throw new Error(`etcd ${call}: ${response.status} ${await response.text()}`);
    return await response.json();
  }

  async #send(method: "POST" | "PATCH" | "DELETE", path: string, body: object): Promise<string> {
    const { status, text } = await this.#api.send(path, {
      method,
      body: JSON.stringify(body),
      ...(method === "PATCH" ? { contentType: MERGE } : {}),
    });
    if (status < 300) return text;
    throw new Error(`${method} ${path}: ${status} ${text}`);
  }
}

const modelPath = `/api/v1/namespaces/${MODEL.namespace}/pods/${MODEL.name}`;

function model(): object {
  return {
    metadata: {
      name: MODEL.name,
      labels: { app: MODEL.app, version: "v1", "pod-template-hash": "7d9f8c6b5" },
      annotations: { "ambient.istio.io/redirection": "enabled" },
    },
    spec: {
      nodeName: MODEL.node,
      serviceAccountName: MODEL.app,
      containers: [
        {
          name: "main",
          image: `example.com/${MODEL.app}:1`,
          ports: [{ name: "http", containerPort: 8080 }],
          env: [{ name: "LOG_LEVEL", value: "info" }],
          resources: { requests: { cpu: "100m", memory: "64Mi" } },
        },
      ],
    },
  };
}

function modelStatus(): object {
  const at = "2026-01-01T00:00:00Z";
  const conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map((type) => ({
    type,
    status: "True",
    lastTransitionTime: at,
  }));
  const containerStatuses = [
    {
      name: "main",
      ready: true,
      restartCount: 0,
      image: `example.com/${MODEL.app}:1`,
      imageID: `sha256:${"0".repeat(64)}`,
      state: { running: { startedAt: at } },
    },
  ];
  return {
    status: {
      phase: "Running",
      hostIP: MODEL.hostIp,
      podIP: MODEL.ip,
      podIPs: [{ ip: MODEL.ip }],
      startTime: at,
      conditions,
      containerStatuses,
    },
  };
}

const appOf = (service: number): string => `app-${String(service).padStart(5, "0")}`;
const namespaceOf = (service: number): string => `team-${service % NAMESPACES}`;

function podName(i: number, service: number): string {
  return `${appOf(service)}-7d9f8c6b5-${i.toString(36).padStart(5, "x")}`;
}

/** Each byte has three digits. */
function ipOf(i: number): string {
  const bytes = [Math.floor(i / 10_000), Math.floor(i / 100) % 100, i % 100];
  return `10.${bytes.map((byte) => 100 + byte).join(".")}`;
}

function base64(text: string): string {
  return Buffer.from(text).toString("base64");
}

function range(length: number): number[] {
  return Array.from({ length }, (_, i) => i);
}

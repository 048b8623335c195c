// An istiod in this process, over a real API server: what its tests start, ask and look at.
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { systemClock } from "#lib/base/clock.ts";
import { CaClient } from "#lib/grpc/ca-client.ts";
import { ApiServerCluster } from "#lib/kube/api-server/api-server-cluster.ts";
import type { ElectionTiming } from "#lib/kube/api-server/leader-election.ts";
import { openApiServer } from "#lib/kube/api-server/open-api-server.ts";
import { type ConfigMap, RESOURCES, type Secret } from "#lib/kube/objects.ts";
import { createLogger } from "#lib/obs/log.ts";
import { DeltaClient, type DeltaUpdate } from "#lib/xds/delta-client.ts";
import { App } from "../../../istiod/app.ts";
import { apiServerBackend } from "../../../istiod/backend.ts";
import { readConfig } from "../../../istiod/config.ts";
import type { ControlPlane } from "../control-plane.ts";

export const SYSTEM = "istio-system";
export const ZTUNNEL = { namespace: SYSTEM, name: "ztunnel" } as const;

/** Istio's, twenty times as fast. */
const TIMING: ElectionTiming = { durationMs: 1_500, renewDeadlineMs: 1_000, retryMs: 300 };
const UNTIL_MS = 10_000;

export interface IstiodOptions {
  readonly env?: Readonly<Record<string, string>>;
  /** Who it is in an election. */
  readonly pod?: string;
  readonly kubeconfig?: string;
}

export interface LogLine {
  readonly level: string;
  readonly message: string;
  readonly [field: string]: unknown;
}

/** Owns the istiod and its connections. */
export class IstiodRun implements AsyncDisposable {
  readonly app: App;
  readonly cluster: ApiServerCluster;
  /** All that it logged, as text. */
  readonly text: string[] = [];
  readonly #api: ControlPlane;
  readonly #owned: AsyncDisposableStack;

  private constructor(
    api: ControlPlane,
    cluster: ApiServerCluster,
    owned: AsyncDisposableStack,
    options: IstiodOptions,
  ) {
    this.#api = api;
    this.#owned = owned;
    this.cluster = cluster;
    const destination = { write: (line: string): void => void this.text.push(line) };
    const log = createLogger({ scope: "istiod", level: "debug", format: "json", destination });
    const config = readConfig({
      ISTIOD_ADDR: "127.0.0.1:0",
      MONITORING_ADDR: "127.0.0.1:0",
      ROOT_CA_DIR: "/nonexistent",
      CA_TRUSTED_NODE_ACCOUNTS: `${SYSTEM}/ztunnel`,
      POD_NAME: options.pod ?? "istiod-0",
      ...options.env,
    });
    const backend = apiServerBackend(config, cluster, log);
    this.app = owned.use(
      new App({ config, backend, log, version: "test", electionTiming: TIMING }),
    );
  }

  /** Made, not started. */
  static async create(api: ControlPlane, options: IstiodOptions = {}): Promise<IstiodRun> {
    const { kubeconfig = api.kubeconfig } = options;
    await using undo = new AsyncDisposableStack();
    const apiServer = undo.use(await openApiServer({ kubeconfig }));
    const log = createLogger({ scope: "kube", level: "silent", format: "json" });
    const cluster = new ApiServerCluster(apiServer, { log });
    return new IstiodRun(api, cluster, undo.move(), options);
  }

  /** Resolves when it is ready. */
  static async start(api: ControlPlane, options: IstiodOptions = {}): Promise<IstiodRun> {
    const run = await IstiodRun.create(api, options);
    await run.app.start();
    return run;
  }

  lines(message: string): LogLine[] {
    return this.text
      .filter((line) => line.includes(message))
      .map((line) => JSON.parse(line) as LogLine);
  }

  async root(): Promise<Buffer> {
    const secret = await this.cluster.get(RESOURCES.secrets, SYSTEM, "istio-ca-secret");
    return Buffer.from((secret as Secret | null)?.data?.["ca-cert.pem"] ?? "", "base64");
  }

  get target() {
    return {
      address: `https://127.0.0.1:${this.app.port}`,
      altHostname: `istiod.${SYSTEM}.svc`,
      rootCert: () => this.root(),
      clusterId: "Kubernetes",
    };
  }

  caClient(token: string): CaClient {
    return this.#owned.use(new CaClient({ ...this.target, token: async () => token }));
  }

  /** A client with a token of its own that keeps all it is sent. */
  async xds(...typeUrls: readonly string[]): Promise<Held> {
    const token = await this.#api.serviceAccountToken({ ...ZTUNNEL, audiences: ["istio-ca"] });
    const held = new Held();
    const stop = new AbortController();
    const client = new DeltaClient({
      ...this.target,
      token: async () => token,
      node: {
        id: `ztunnel~10.0.0.1~ztunnel-x.${SYSTEM}~${SYSTEM}.svc.cluster.local`,
        metadata: { NAMESPACE: SYSTEM },
      },
      types: typeUrls.map((typeUrl) => ({ typeUrl, apply: (update) => held.apply(update) })),
      log: createLogger({ scope: "test", level: "silent", format: "json" }),
      clock: systemClock,
    });
    const running = client.run(stop.signal);
    this.#owned.defer(async () => {
      stop.abort();
      await running;
    });
    return held;
  }

  get(path: string): Promise<Response> {
    return fetch(`http://127.0.0.1:${this.app.monitoringPort}${path}`);
  }

  async configMap(namespace: string, name = "istio-ca-root-cert"): Promise<ConfigMap | null> {
    return await this.cluster.get(RESOURCES.configMaps, namespace, name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned[Symbol.asyncDispose]();
  }
}

/** What a client has been sent. */
export class Held {
  readonly resources = new Map<string, { readonly version: string; readonly bytes: Buffer }>();
  /** In the order of their arrival, names and versions and bytes. */
  readonly arrived: Buffer[] = [];

  apply({ resources, removed }: DeltaUpdate): [] {
    for (const { name, version, bytes } of resources) {
      this.resources.set(name, { version, bytes: Buffer.from(bytes) });
      this.arrived.push(Buffer.from(`${name} ${version} `), Buffer.from(bytes));
    }
    for (const name of removed) this.resources.delete(name);
    return [];
  }

  has(name: string): boolean {
    return this.resources.has(name);
  }
}

export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  withinMs = UNTIL_MS,
): Promise<void> {
  for (const end = Date.now() + withinMs; !(await condition()); await sleep(20))
    assert.ok(Date.now() < end, `${what}: not within ${withinMs} ms`);
}

/** Applies manifests as the administrator, status included where it is given. */
export async function put(api: ControlPlane, ...objects: readonly object[]): Promise<void> {
  const stdin = objects.map((object) => JSON.stringify(object)).join("\n---\n");
  const apply = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
  const { code, stderr } = await api.kubectl(apply, { stdin });
  assert.equal(code, 0, stderr);
  const withStatus = objects.filter((object) => "status" in object);
  if (withStatus.length === 0) return;
  const status = withStatus.map((object) => JSON.stringify(object)).join("\n---\n");
  const result = await api.kubectl([...apply, "--subresource=status"], { stdin: status });
  assert.equal(result.code, 0, result.stderr);
}

export function namespaced(name: string, labels: Readonly<Record<string, string>> = {}): object {
  return { apiVersion: "v1", kind: "Namespace", metadata: { name, labels } };
}

export interface PodOptions {
  readonly account?: string;
  readonly node?: string;
  readonly ip?: string;
  readonly labels?: Readonly<Record<string, string>>;
}

/** A running, captured pod. */
export function runningPod(namespace: string, name: string, options: PodOptions = {}): object {
  const { account = "default", node = "worker-1", ip = "10.244.1.7", labels = {} } = options;
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      name,
      namespace,
      labels,
      annotations: { "ambient.istio.io/redirection": "enabled" },
    },
    spec: {
      serviceAccountName: account,
      nodeName: node,
      containers: [{ name: "main", image: "example.com/none" }],
    },
    status: {
      phase: "Running",
      podIP: ip,
      podIPs: [{ ip }],
      conditions: [{ type: "Ready", status: "True", lastTransitionTime: "2026-01-01T00:00:00Z" }],
    },
  };
}

export function account(namespace: string, name: string): object {
  return { apiVersion: "v1", kind: "ServiceAccount", metadata: { name, namespace } };
}

export function policy(namespace: string, name: string, spec: object): object {
  return {
    apiVersion: "security.istio.io/v1",
    kind: "AuthorizationPolicy",
    metadata: { name, namespace },
    spec,
  };
}

// Where `make bench-kube` measures: two nodes with kubelets, the mesh installed from its manifests, and a server on
// node b in a namespace of the mesh and in one outside.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ApiServerCluster } from "#lib/kube/api-server/api-server-cluster.ts";
import { openApiServer } from "#lib/kube/api-server/open-api-server.ts";
import { podLogs } from "#lib/kube/api-server/pod-logs.ts";
import { RESOURCES, type Pod } from "#lib/kube/objects.ts";
import { createLogger } from "#lib/obs/log.ts";
import { REDIRECTION } from "../../../cni/agent/pod-knobs.ts";
import { KubeCluster } from "../../kube/kube-cluster.ts";
import { installMesh, serviceAccount, workloadPod, type WorkloadPod } from "../../kube/mesh.ts";

/** The path's name in the table, and the namespace of the same name's pods. */
export const NAMESPACES = { direct: "plain", ambit: "mesh" } as const;
export type Path = keyof typeof NAMESPACES;
export const PATHS: readonly Path[] = ["direct", "ambit"];
export const PORT = 8080;
export const WRITER = { fieldManager: "bench" } as const;
const ACCOUNT = "bench";
const AMBIENT = { "istio.io/dataplane-mode": "ambient" };
const WAIT_MS = 120_000;

/** Owns the cluster. */
export class KubeStage implements AsyncDisposable {
  readonly cluster: KubeCluster;
  readonly kube: ApiServerCluster;
  readonly #owned: AsyncDisposableStack;

  private constructor(cluster: KubeCluster, kube: ApiServerCluster, owned: AsyncDisposableStack) {
    this.cluster = cluster;
    this.kube = kube;
    this.#owned = owned;
  }

  static async create(): Promise<KubeStage> {
    await using undo = new AsyncDisposableStack();
    const cluster = undo.use(
      await KubeCluster.start({
        crds: ["gateway-api"],
        images: ["ambit", "workload"],
        auditLog: true,
      }),
    );
    await installMesh(cluster);
    for (const [path, name] of Object.entries(NAMESPACES)) {
      const labels = path === "ambit" ? AMBIENT : {};
      await cluster.apply({ apiVersion: "v1", kind: "Namespace", metadata: { name, labels } });
      await cluster.apply(serviceAccount(name, ACCOUNT));
    }
    const { kubeconfig } = cluster;
    const apiServer = undo.use(await openApiServer({ kubeconfig, userAgent: "ambit-bench" }));
    const log = createLogger({ scope: "bench", level: "silent", format: "plain" });
    return new KubeStage(cluster, new ApiServerCluster(apiServer, { log }), undo.move());
  }

  /** Of a pod in one of the two namespaces, or of another. Resolves when the API server has it. */
  async createPod(options: BenchPod): Promise<void> {
    const { script, args = [], ...pod } = options;
    const command =
      script === undefined
        ? {}
        : { command: ["node", "--input-type=module-typescript", "-e", source(script), ...args] };
    const object = workloadPod({ serviceAccount: ACCOUNT, probes: {}, ...pod, ...command });
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a Pod, made as such
    await this.kube.create(RESOURCES.pods, object as Pod, WRITER);
  }

  /** Resolves when it is gone. */
  async deletePod(namespace: string, name: string): Promise<void> {
    await this.kube.delete(RESOURCES.pods, namespace, name);
    await this.until(
      `${name} to be gone`,
      async () => (await this.kube.get(RESOURCES.pods, namespace, name)) === null,
    );
  }

  /** Resolves with its address once it runs, and in the mesh's namespace is enrolled. */
  async running(namespace: string, name: string): Promise<string> {
    let address = "";
    await this.until(`${name} to run`, async () => {
      const pod = await this.kube.get(RESOURCES.pods, namespace, name);
      const isIn = namespace !== NAMESPACES.ambit || isEnrolled(pod);
      address = pod?.status?.podIP ?? "";
      return address !== "" && pod?.status?.phase === "Running" && isIn;
    });
    return address;
  }

  /** An echo server on that node. Resolves with its address when it answers the kubelet's probe. */
  async server(namespace: string, name: string, node: string): Promise<string> {
    const probes = { readinessProbe: { tcpSocket: { port: PORT }, periodSeconds: 1 } };
    await this.createPod({ namespace, name, node, probes });
    await this.cluster.waitFor("condition=Ready", namespace, `pod/${name}`);
    return await this.running(namespace, name);
  }

  /** Lines of a pod's output as they come, from its first on. */
  output(namespace: string, pod: string, signal: AbortSignal): AsyncGenerator<string> {
    return podLogs(this.kube.apiServer, { namespace, pod, follow: true, signal });
  }

  async outputSoFar(namespace: string, pod: string): Promise<string> {
    const lines: string[] = [];
    for await (const line of podLogs(this.kube.apiServer, { namespace, pod })) lines.push(line);
    return lines.join("\n");
  }

  until(what: string, holds: () => Promise<boolean>): Promise<void> {
    return this.cluster.until(what, holds, WAIT_MS);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#owned[Symbol.asyncDispose]();
  }
}

export interface BenchPod extends Omit<WorkloadPod, "serviceAccount" | "command"> {
  /** A program of `pods/`, instead of an echo server. */
  readonly script?: "first-byte" | "prober";
  readonly args?: readonly string[];
}

export function isEnrolled(pod: Pod | null): boolean {
  return pod?.metadata.annotations?.[REDIRECTION] === "enabled";
}

function source(script: string): string {
  return readFileSync(join(import.meta.dirname, `pods/${script}.ts`), "utf8");
}

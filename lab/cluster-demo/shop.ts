// The sample shop in a cluster, as the demo watches it: who runs where, what the client hears, who is served.
import type { Flow } from "../pcap.ts";
import { eventually, StepError } from "../demo/step.ts";
import type { DemoCluster } from "./cluster.ts";

export const SHOP = "shop";
const STREET = "street";

const HOLD_MS = 20_000;
const NODE = "/opt/ambit/bin/node";
/** What every answer of a server says. */
const ANSWER = /server (v\d) on \S+/g;
export const isReadable = (flow: Flow): boolean => flow.bytes.includes("server v");

export interface ShopPod {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly node: string;
  readonly ip: string;
  readonly restarts: number;
}

interface PodList {
  readonly items: readonly {
    readonly metadata: {
      readonly name: string;
      readonly namespace: string;
      readonly uid: string;
      readonly labels?: Readonly<Record<string, string>>;
    };
    readonly spec: { readonly nodeName?: string };
    readonly status: {
      readonly podIP?: string;
      readonly containerStatuses?: readonly { readonly restartCount: number }[];
    };
  }[];
}

/** What a program in a pod saw. */
export interface Asked {
  readonly answered: boolean;
  readonly words: string;
}

export class ClusterShop {
  readonly #cluster: DemoCluster;

  private constructor(cluster: DemoCluster) {
    this.#cluster = cluster;
  }

  /** Resolves when all of its pods are ready. */
  static async opened(cluster: DemoCluster, timeoutMs: number): Promise<ClusterShop> {
    for (const namespace of [SHOP, STREET])
      await cluster.kubectl([
        ..."wait --for=condition=Available deployment --all -n".split(" "),
        namespace,
        `--timeout=${timeoutMs / 1000}s`,
      ]);
    return new ClusterShop(cluster);
  }

  /** By name; `app` keeps those of one label. */
  async pods(app?: string): Promise<readonly ShopPod[]> {
    const all = await Promise.all(
      [SHOP, STREET].map((namespace) =>
        this.#cluster.kubectl([
          ..."get pods -o json -n".split(" "),
          namespace,
          ...(app === undefined ? [] : ["-l", `app=${app}`]),
        ]),
      ),
    );
    return all
      .flatMap((text) => (JSON.parse(text) as PodList).items)
      .filter((pod) => pod.metadata.labels?.["gateway.istio.io/managed"] === undefined)
      .map(({ metadata, spec, status }) => ({
        namespace: metadata.namespace,
        name: metadata.name,
        uid: metadata.uid,
        node: spec.nodeName ?? "",
        ip: status.podIP ?? "",
        restarts: status.containerStatuses?.[0]?.restartCount ?? 0,
      }));
  }

  /** Waits for `count` more answers to the client. @returns the versions that gave them */
  async clientHears(count: number, timeoutMs: number): Promise<readonly string[]> {
    const since = new Date(Date.now() - 1_000).toISOString();
    return await eventually(`${count} answers to the client`, timeoutMs, async () => {
      const args = ["logs", "-n", SHOP, "deployment/client", `--since-time=${since}`];
      const text = await this.#cluster.kubectl(args);
      const versions = [...text.matchAll(ANSWER)].map((m) => m[1] ?? "");
      if (versions.length < count) throw new StepError(`so far: ${text.trim() || "nothing"}`);
      return [...new Set(versions)].toSorted().map((v) => `server ${v}`);
    });
  }

  /** One question from `who` to the service. */
  async ask(who: "visitor" | "stranger" | "client", host = `server.${SHOP}`): Promise<Asked> {
    const namespace = who === "stranger" ? STREET : SHOP;
    try {
      const words = await this.#cluster.kubectl([
        ...`exec -n ${namespace} deployment/${who} -- ${NODE} /shop/ask.mjs`.split(" "),
        `http://${host}/`,
      ]);
      return { answered: true, words };
    } catch (error) {
      const words = /failed: .*/.exec((error as Error).message)?.[0];
      if (words === undefined) throw error;
      return { answered: false, words };
    }
  }

  /** Questions to each version, so that both nodes have spoken. */
  async askAll(): Promise<void> {
    for (const version of ["v1", "v2"]) await this.ask("client", `server-${version}.${SHOP}`);
  }

  /** A connection of the client's that says nothing for a while; nobody waits for its end. */
  hold(): void {
    const quiet = `require("net").connect(80, "server.${SHOP}"); setTimeout(() => process.exit(), ${HOLD_MS})`;
    this.#cluster
      .kubectl([...`exec -n ${SHOP} deployment/client -- ${NODE} -e`.split(" "), quiet])
      .catch(() => "");
  }
}

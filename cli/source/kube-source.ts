// The ztunnels of a cluster, reached through the API server: their admin ports listen on the pods' loopback.
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";
import { text } from "node:stream/consumers";
import { RESOURCES, type Pod } from "#lib/kube/objects.ts";
import { CliError } from "../errors.ts";
import type { Kube } from "../kube/connect.ts";
import { whySilent } from "../kube/mesh-presence.ts";
import { isReady } from "../kube/pod-state.ts";
import { httpOver } from "./http-over.ts";
import { parseJson, type Json } from "./json.ts";
import type { AdminPath, LiveSource } from "./mesh-source.ts";
import { splitLines } from "./ndjson.ts";

const ZTUNNEL_ADMIN = 15_000;
const ISTIOD_DEBUG = 15_014;

/** Opens a byte stream to a port of a pod, as `portForward` of lib/kube does. */
export type Forward = (
  target: { readonly namespace: string; readonly pod: string; readonly port: number },
  signal: AbortSignal,
) => Promise<Duplex>;

export class KubeSource implements LiveSource {
  readonly name: string;
  readonly confidence = "live";
  readonly statusCommand = "ambit status";
  readonly #kube: Kube;
  #pods: Promise<ReadonlyMap<string, Pod>> | null = null;

  readonly #forwardTo: Forward;

  constructor(kube: Kube, forward: Forward = throughApiServer(kube)) {
    this.#kube = kube;
    this.#forwardTo = forward;
    this.name = kube.name;
  }

  async nodes(): Promise<readonly string[]> {
    const pods = await this.#ztunnels();
    if (pods.size > 0) return [...pods.keys()];
    throw await whySilent(
      this.#kube,
      new CliError(
        "UNREACHABLE",
        `No ztunnel runs in namespace ${this.#kube.meshNamespace} of ${this.name}`,
        ["ambit status says why", "ambit install goes on where an installation stopped"],
      ),
    );
  }

  async fetch(node: string, path: AdminPath, signal: AbortSignal): Promise<Json> {
    const response = await this.#ask(node, "GET", path, signal);
    return parseJson(await text(response), `${path} of ${node}`);
  }

  async *lines(node: string, path: string, signal: AbortSignal): AsyncIterable<string> {
    try {
      yield* splitLines(await this.#ask(node, "GET", path, signal));
    } catch (error) {
      this.#pods = null; // perhaps another pod serves the node by now
      if (!signal.aborted) throw error;
    }
  }

  async logging(node: string, query: string, signal: AbortSignal): Promise<string> {
    return await text(await this.#ask(node, "POST", `/logging${query}`, signal));
  }

  async istiodVersion(signal: AbortSignal): Promise<string> {
    const answer = parseJson(await this.istiod("/version", signal), "istiod's version");
    return answer.at("version").text("unknown");
  }

  /** A page of one istiod that is ready; `pod` picks it. */
  async istiod(path: string, signal: AbortSignal, pod?: Pod): Promise<string> {
    const chosen = pod ?? (await this.istiods()).find(isReady);
    if (chosen === undefined)
      throw await whySilent(
        this.#kube,
        new CliError("UNREACHABLE", `No istiod of ${this.name} is ready`, [
          "ambit status says why",
        ]),
      );
    return await text(await this.#forward(chosen, ISTIOD_DEBUG, "GET", path, signal));
  }

  async istiods(): Promise<readonly Pod[]> {
    return await this.#list("app=istiod");
  }

  async #ask(
    node: string,
    method: "GET" | "POST",
    path: string,
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    const pod = (await this.#ztunnels()).get(node);
    if (pod === undefined) throw new CliError("NOT_FOUND", `${this.name} has no node ${node}`);
    return await this.#forward(pod, ZTUNNEL_ADMIN, method, path, signal);
  }

  async #forward(
    { metadata }: Pod,
    port: number,
    method: "GET" | "POST",
    path: string,
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    const { name: pod, namespace = "" } = metadata;
    const target = { namespace, pod, port };
    return await httpOver(await this.#forwardTo(target, signal), method, path, signal);
  }

  /** By node. Where two are, as during a rollout, the one that is ready counts. */
  #ztunnels(): Promise<ReadonlyMap<string, Pod>> {
    this.#pods ??= this.#list("app=ztunnel").then((pods) => {
      const byNode = new Map<string, Pod>();
      for (const pod of pods) {
        const node = pod.spec?.nodeName;
        if (node === undefined || pod.metadata.deletionTimestamp !== undefined) continue;
        const other = byNode.get(node);
        if (other === undefined || (!isReady(other) && isReady(pod))) byNode.set(node, pod);
      }
      return byNode;
    });
    return this.#pods;
  }

  async #list(labelSelector: string): Promise<readonly Pod[]> {
    const { cluster, meshNamespace: namespace } = this.#kube;
    return await cluster.list(RESOURCES.pods, { namespace, labelSelector });
  }
}

function throughApiServer({ server }: Kube): Forward {
  return async (target, signal) => {
    const { portForward } = await import("#lib/kube/api-server/port-forward.ts");
    return await portForward(server, target, signal);
  };
}

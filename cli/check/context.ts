// What checks look at: each list is fetched once, whichever check asks first.
import { readFile } from "node:fs/promises";
import { KubeError } from "#lib/kube/errors.ts";
import type { KubeObject, Resource } from "#lib/kube/cluster.ts";
import { RESOURCES, type Namespace, type Pod } from "#lib/kube/objects.ts";
import { CliError } from "../errors.ts";
import type { Kube } from "../kube/connect.ts";
import { parseConfigDump, type ConfigDump } from "../source/config-dump.ts";
import type { KubeSource } from "../source/kube-source.ts";
import { gather, type Gathered } from "../source/mesh-source.ts";

export interface ContextOptions {
  /** Of `-n`: only this namespace's data plane. */
  readonly namespace?: string | undefined;
  /** Only this node's pods and its ztunnel. */
  readonly node?: string | undefined;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
  readonly now: number;
}

export class CheckContext {
  readonly kube: Kube;
  readonly namespace: string | undefined;
  readonly node: string | undefined;
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
  readonly now: number;
  readonly #lists = new Map<string, Promise<readonly KubeObject[]>>();
  #source: Promise<KubeSource> | null = null;
  #dumps: Promise<Gathered<ConfigDump> | null> | null = null;

  constructor(kube: Kube, { namespace, node, timeoutMs, signal, now }: ContextOptions) {
    this.kube = kube;
    this.namespace = namespace;
    this.node = node;
    this.timeoutMs = timeoutMs;
    this.signal = signal;
    this.now = now;
  }

  /** Of all namespaces. Empty when the kind is not served. */
  list<T extends KubeObject>(resource: Resource<T>): Promise<readonly T[]> {
    const key = `${resource.plural}.${resource.group}`;
    let found = this.#lists.get(key);
    if (found === undefined) {
      found = this.#onNode(resource).catch((error: unknown) => {
        if (error instanceof KubeError && error.code === "NOT_SERVED") return [];
        throw error;
      });
      this.#lists.set(key, found);
    }
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the key is the resource's
    return found as Promise<readonly T[]>;
  }

  #onNode(resource: Resource): Promise<readonly KubeObject[]> {
    const { cluster } = this.kube;
    if (this.node === undefined) return cluster.list(resource);
    if (resource.kind === RESOURCES.pods.kind)
      return cluster.list(resource, { fieldSelector: `spec.nodeName=${this.node}` });
    if (resource.kind === RESOURCES.nodes.kind)
      return cluster.list(resource, { fieldSelector: `metadata.name=${this.node}` });
    return cluster.list(resource);
  }

  /** Namespaces checks of the data plane look at, by name. */
  async namespaces(): Promise<ReadonlyMap<string, Namespace>> {
    const all = await this.list(RESOURCES.namespaces);
    return new Map(
      all
        .filter((n) => this.namespace === undefined || n.metadata.name === this.namespace)
        .map((n) => [n.metadata.name, n]),
    );
  }

  async podsOf(namespace: string): Promise<readonly Pod[]> {
    return (await this.list(RESOURCES.pods)).filter((p) => p.metadata.namespace === namespace);
  }

  source(): Promise<KubeSource> {
    this.#source ??= import("../source/kube-source.ts").then(
      ({ KubeSource: Source }) => new Source(this.kube),
    );
    return this.#source;
  }

  /** `null` when no ztunnel answers. */
  dumps(): Promise<Gathered<ConfigDump> | null> {
    this.#dumps ??= this.source().then(async (source) => {
      try {
        const { node, timeoutMs, signal } = this;
        return await gather(source, "/config_dump", parseConfigDump, { node, timeoutMs, signal });
      } catch (error) {
        this.signal.throwIfAborted();
        if (error instanceof CliError) return null;
        throw error;
      }
    });
    return this.#dumps;
  }

  deadline(): AbortSignal {
    return AbortSignal.any([this.signal, AbortSignal.timeout(this.timeoutMs)]);
  }

  /** A file of this machine, which is also a kind cluster's; `null` when there is none. */
  async localText(path: string): Promise<string | null> {
    return await readFile(path, "utf8").catch(() => null);
  }
}

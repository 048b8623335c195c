// The mesh configuration in the cluster: key `mesh` of ConfigMap `istio`, or `istio-<revision>`.
import { Backoff } from "#lib/base/backoff.ts";
import type { Clock } from "#lib/base/clock.ts";
import type { Cluster, WatchEvent } from "#lib/kube/cluster.ts";
import { KubeError } from "#lib/kube/errors.ts";
import { type ConfigMap, RESOURCES } from "#lib/kube/objects.ts";
import type { Logger } from "#lib/obs/log.ts";
import { IstiodError } from "./errors.ts";
import { type MeshConfig, parseMeshConfigText } from "./mesh-config.ts";
import { MeshConfigUpdates, type MeshConfigUpdatesOptions } from "./mesh-config-updates.ts";

export interface MeshConfigMapOptions {
  /** Borrowed. */
  readonly cluster: Cluster;
  /** istiod's. */
  readonly namespace: string;
  readonly revision: string;
  readonly log: Logger;
}

const KEY = "mesh";

export class MeshConfigMap {
  readonly #options: MeshConfigMapOptions;
  readonly #name: string;
  readonly #source: string;

  constructor(options: MeshConfigMapOptions) {
    const { namespace, revision } = options;
    this.#options = options;
    this.#name = revision === "" || revision === "default" ? "istio" : `istio-${revision}`;
    this.#source = `ConfigMap ${namespace}/${this.#name}, ${KEY}`;
  }

  /**
   * As it is now; all defaults without one. Waits for an API server that does not answer.
   * @throws {IstiodError} `CONFIG_INVALID` naming line and field of every mistake
   */
  async read(clock: Clock, signal: AbortSignal): Promise<MeshConfig> {
    const problems: string[] = [];
    const text = (await this.#get(clock, signal)) ?? "";
    const mesh = parseMeshConfigText(text, this.#source, (problem) => problems.push(problem));
    if (problems.length > 0)
      throw new IstiodError("CONFIG_INVALID", `Cannot start: ${problems.join("; ")}`);
    return mesh;
  }

  /** Offers each version that comes, until `signal` aborts. */
  async watch(options: MeshConfigUpdatesOptions, signal: AbortSignal): Promise<void> {
    const { cluster, namespace, log } = this.#options;
    const updates = new MeshConfigUpdates(this.#source, options);
    let last = Promise.resolve();
    const handler = {
      onEvents: (events: readonly WatchEvent<ConfigMap>[]): void => {
        const event = events.at(-1);
        const text = event?.type === "deleted" ? undefined : event?.object.data?.[KEY];
        if (text === undefined) updates.refuse(`${this.#source} is gone`);
        else last = last.then(() => updates.offer(text));
      },
      onSynced: (): void => {},
      onError: (error: Error): void => log.warn({ error }, "cannot watch the mesh configuration"),
    };
    const selected = { namespace, fieldSelector: `metadata.name=${this.#name}`, signal };
    await cluster.watch(RESOURCES.configMaps, handler, selected);
    await last;
  }

  async #get(clock: Clock, signal: AbortSignal): Promise<string | undefined> {
    const { cluster, namespace, log } = this.#options;
    const backoff = new Backoff({ startMs: 100, maxMs: 5_000, jitter: 0.2 });
    for (;;) {
      try {
        const found = await cluster.get(RESOURCES.configMaps, namespace, this.#name);
        return found?.data?.[KEY];
      } catch (error) {
        if (!(error instanceof KubeError)) throw error;
        log.warn({ error }, "cannot read the mesh configuration; trying again");
        await clock.sleep(backoff.next(), signal);
        signal.throwIfAborted();
      }
    }
  }
}

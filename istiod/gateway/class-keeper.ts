// Makes the built-in GatewayClasses that are missing, again when one is deleted; never changes one.
// Every replica does: the first one makes it, the others find it there.
import { Backoff } from "#lib/base/backoff.ts";
import type { Clock } from "#lib/base/clock.ts";
import type { KubeObject, Resource } from "#lib/kube/cluster.ts";
import { KubeError } from "#lib/kube/errors.ts";
import { type GatewayClass, RESOURCES } from "#lib/kube/objects.ts";
import type { Logger } from "#lib/obs/log.ts";
import type { Cluster } from "#lib/kube/cluster.ts";
import { BUILT_IN_CLASSES, type ManagedClass } from "./classes.ts";
import type { GatewayCache } from "./gateway-cache.ts";
import { CONTROLLER_NAME } from "./keys.ts";
import { WatchedObjects } from "./watched-objects.ts";

/** Of an API server: `apply` would change a class that somebody made in between. */
export interface Creator extends Cluster {
  /** @throws {KubeError} `ALREADY_EXISTS` */
  create<T extends KubeObject>(
    resource: Resource<T>,
    object: T,
    options: { readonly fieldManager: string },
  ): Promise<T>;
}

export interface ClassKeeperOptions {
  /** Borrowed. */
  readonly cluster: Creator;
  readonly cache: GatewayCache;
  readonly log: Logger;
  readonly clock: Clock;
}

const CRD = "gatewayclasses.gateway.networking.k8s.io";
/** A definition is there some time before its kind is served. */
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 30_000;

export class ClassKeeper {
  readonly #options: ClassKeeperOptions;
  #wake = Promise.withResolvers<void>();
  #isAsked = true;

  constructor(options: ClassKeeperOptions) {
    this.#options = options;
  }

  /** Works until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { cache, cluster, log, clock } = this.#options;
    const definitions = new WatchedObjects({
      resource: RESOURCES.customResourceDefinitions,
      onChange: (now, old) => {
        if ((now ?? old)?.metadata.name === CRD) this.#ask();
      },
    });
    const watching = definitions.run(cluster, log, signal);
    await cache.synced(signal);
    using _ = cache.listenClasses(() => this.#ask());
    const stop = (): void => this.#wake.resolve();
    signal.addEventListener("abort", stop, { once: true });
    const backoff = new Backoff({ startMs: FIRST_PAUSE_MS, maxMs: LONGEST_PAUSE_MS });
    while (!signal.aborted) {
      if (!this.#isAsked) {
        await this.#wake.promise;
        this.#wake = Promise.withResolvers();
        continue;
      }
      this.#isAsked = false;
      const isDone = !definitions.objects.has(CRD) || (await this.#makeMissing());
      if (isDone) {
        backoff.reset();
        continue;
      }
      await clock.sleep(backoff.next(), signal);
      this.#isAsked = true;
    }
    signal.removeEventListener("abort", stop);
    await watching;
  }

  #ask(): void {
    this.#isAsked = true;
    this.#wake.resolve();
  }

  /** @returns whether all are there */
  async #makeMissing(): Promise<boolean> {
    const { cache, cluster, log } = this.#options;
    let isDone = true;
    for (const wanted of BUILT_IN_CLASSES) {
      if (cache.classes().has(wanted.name)) continue;
      try {
        const options = { fieldManager: CONTROLLER_NAME };
        await cluster.create(RESOURCES.gatewayClasses, classObject(wanted), options);
        log.info({ class: wanted.name }, "gateway class made");
      } catch (error) {
        if (error instanceof KubeError && error.code === "ALREADY_EXISTS") continue;
        isDone = false;
        log.debug({ class: wanted.name, error }, "gateway class cannot be made yet");
      }
    }
    return isDone;
  }
}

function classObject({ name, controllerName, description }: ManagedClass): GatewayClass {
  const spec = { controllerName, description };
  return {
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "GatewayClass",
    metadata: { name },
    spec,
  };
}

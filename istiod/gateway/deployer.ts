// Keeps what is made for each Gateway as it should be, while it leads: creates, updates, and repairs what
// others edited. Deleting is Kubernetes' own: everything is owned by its Gateway.
// Source: istio pilot/pkg/config/kube/gatewaycommon/deploymentcontroller.go.
import type { Clock } from "#lib/base/clock.ts";
import type { Cluster, KubeObject, Resource } from "#lib/kube/cluster.ts";
import { KubeError } from "#lib/kube/errors.ts";
import type { Labels } from "#lib/kube/labels.ts";
import { type Gateway, objectName, type PodController, RESOURCES } from "#lib/kube/objects.ts";
import { WorkQueue } from "#lib/kube/work-queue.ts";
import type { Logger } from "#lib/obs/log.ts";
import type { LeaderTask } from "../leader-task.ts";
import { otherOwner } from "./claims.ts";
import { isDeployed } from "./classes.ts";
import type { Cause, GatewayCache } from "./gateway-cache.ts";
import { CONTROLLER_NAME, CONTROLLER_VERSION, MANAGED } from "./keys.ts";
import { baseName } from "./names.ts";
import { ownImage } from "./own-image.ts";
import { render, type RenderedObject } from "./render.ts";
import type { GatewaySettings, ProgramImage } from "./settings.ts";

export interface DeployerOptions {
  /** Borrowed. */
  readonly cluster: Cluster;
  readonly cache: GatewayCache;
  readonly settings: () => GatewaySettings;
  /** `null`: the image of `pod`, in which we run. */
  readonly program: ProgramImage | null;
  readonly pod: { readonly namespace: string; readonly name: string };
  readonly lock: string;
  readonly log: Logger;
  readonly clock: Clock;
}

/** Of what is written here. A control plane that writes a higher one has taken over. */
const VERSION = 5;
const CAUSES: ReadonlySet<Cause> = new Set<Cause>(["gateway", "child"]);

/** The last write of an object: while neither side changes there is nothing to write. */
interface Written {
  readonly content: string;
  readonly result: string;
}

export class Deployer implements LeaderTask {
  readonly lock: string;
  readonly lockKind = "lease";
  readonly #options: DeployerOptions;
  readonly #queue: WorkQueue<string>;
  /** By Gateway, then by `plural namespace/name`; `null` for an object that is not ours, which is said once. */
  readonly #written = new Map<string, Map<string, Written | null>>();
  #program: ProgramImage | null;
  /** Objects (`plural namespace/name`) that turned out to be others than the cache had: asked for anew. */
  readonly #stale = new Set<string>();
  #isUnmarked = false;

  constructor(options: DeployerOptions) {
    this.#options = options;
    this.lock = options.lock;
    this.#program = options.program;
    this.#queue = new WorkQueue({
      handle: (key) => this.#deploy(key),
      onGivenUp: (key, error) => this.#giveUp(key, error),
      clock: options.clock,
    });
  }

  async lead(signal: AbortSignal): Promise<void> {
    const { cache } = this.#options;
    this.#written.clear();
    this.#stale.clear();
    await cache.synced(signal);
    using _ = cache.listen((key, cause) => {
      if (CAUSES.has(cause)) this.#queue.add(key);
    });
    await this.#queue.run(cache.keys(), signal);
  }

  async #deploy(key: string): Promise<void> {
    const { cache, settings, log } = this.#options;
    const found = cache.ours(key);
    if (found === null) {
      this.#written.delete(key);
      return;
    }
    const { gateway, managedClass } = found;
    if (!isDeployed(gateway) || !isForThisVersion(gateway)) return;
    const parameters = cache.parameters(gateway);
    if (parameters.kind === "unknown") return;
    if (parameters.kind === "invalid") return; // its status says so
    if (!(await this.#takeOver(gateway))) return;
    const { overlays } = parameters;
    const deployedSelector = this.#deployedSelector(gateway);
    const program = (this.#program ??= await ownImage(this.#options.cluster, this.#options.pod));
    const inputs = { managedClass, settings: settings(), program, overlays, deployedSelector };
    const rendering = render(gateway, inputs);
    if (rendering.kind === "invalid") return;
    const written = this.#written.get(key) ?? new Map<string, Written | null>();
    this.#written.set(key, written);
    for (const object of rendering.objects) await this.#write(gateway, object, written);
    log.debug({ gateway: key, objects: rendering.objects.length }, "gateway deployed");
  }

  /**
   * A mark for other versions of this control plane: Gateways with a higher one are left to them. It
   * goes to the object itself; of a write to the status an API server would drop it. Without the
   * permission to patch Gateways there is no mark, and everything else goes on.
   * @returns false when the Gateway is gone or another version's by now
   */
  async #takeOver({ metadata }: Gateway): Promise<boolean> {
    if (metadata.annotations?.[CONTROLLER_VERSION] === String(VERSION)) return true;
    const { cluster, log } = this.#options;
    const { namespace = null, name } = metadata;
    const live = await cluster.get(RESOURCES.gateways, namespace, name);
    if (live === null || !isForThisVersion(live)) return false;
    const { resourceVersion } = live.metadata;
    const version = resourceVersion === undefined ? {} : { resourceVersion };
    const annotations = { [CONTROLLER_VERSION]: String(VERSION) };
    const patch = { metadata: { annotations, ...version } };
    const options = { fieldManager: CONTROLLER_NAME };
    try {
      await cluster.patch(RESOURCES.gateways, namespace, name, patch, options);
    } catch (error) {
      if (!(error instanceof KubeError) || error.code !== "FORBIDDEN") throw error;
      log[this.#isUnmarked ? "debug" : "warn"]({ error }, "gateways cannot be marked");
      this.#isUnmarked = true;
    }
    return true;
  }

  #deployedSelector(gateway: Gateway): Labels | null {
    const key = `${gateway.metadata.namespace ?? ""}/${baseName(gateway) ?? ""}`;
    const deployment = this.#options.cache.child(RESOURCES.deployments.plural, key);
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- of the store of Deployments
    return (deployment as PodController | undefined)?.spec?.selector?.matchLabels ?? null;
  }

  async #write(
    gateway: Gateway,
    { resource, object }: RenderedObject,
    writes: Map<string, Written | null>,
  ): Promise<void> {
    const { cluster, cache, log } = this.#options;
    const key = objectName(object);
    const id = `${resource.plural} ${key}`;
    const content = JSON.stringify(object);
    const known = this.#stale.has(id) ? undefined : cache.child(resource.plural, key);
    const last = writes.get(id);
    if (known !== undefined && last?.content === content && last.result === stateOf(known)) return;
    const { namespace = null, name } = object.metadata;
    const live = known ?? (await cluster.get(resource, namespace, name));
    const reason = live === null ? null : this.#refusal(live, gateway);
    if (reason !== null) {
      if (last !== null)
        log.warn({ kind: resource.kind, object: key, reason }, "object left alone");
      writes.set(id, null);
      return;
    }
    const { resourceVersion } = live?.metadata ?? {};
    // What was looked at is what is written to: an object that changed in between fails, and is looked at again.
    const version = resourceVersion === undefined ? {} : { resourceVersion };
    const written = { ...object, metadata: { ...object.metadata, ...version } };
    const result = await this.#apply(resource, written, id);
    cache.learn(resource.plural, result);
    writes.set(id, { content, result: stateOf(result) });
    if (live === null) log.info({ kind: resource.kind, object: key }, "made for a gateway");
  }

  async #apply(resource: Resource, object: KubeObject, id: string): Promise<KubeObject> {
    try {
      const options = { fieldManager: CONTROLLER_NAME };
      const result = await this.#options.cluster.apply(resource, object, options);
      this.#stale.delete(id);
      return result;
    } catch (error) {
      if (error instanceof KubeError && error.code === "CONFLICT") this.#stale.add(id);
      throw error;
    }
  }

  #refusal(live: KubeObject, gateway: Gateway): string | null {
    if (live.metadata.labels?.[MANAGED] === undefined) return `it has no label ${MANAGED}`;
    const other = otherOwner(live, gateway, (key) => this.#options.cache.gateway(key));
    return other === null ? null : `it is made for Gateway ${other}`;
  }

  #giveUp(key: string, error: unknown): void {
    const code = error instanceof KubeError ? error.code : "";
    this.#options.log.warn({ gateway: key, code, error }, "gateway cannot be deployed");
  }
}

/** A higher version, or one that is no number, is another control plane's. */
function isForThisVersion({ metadata }: Gateway): boolean {
  const marked = metadata.annotations?.[CONTROLLER_VERSION];
  return marked === undefined || (/^\d{1,9}$/.test(marked) && Number(marked) <= VERSION);
}

/** Differs after any edit; where generations are counted, not after a change of the status. */
function stateOf({ metadata }: KubeObject): string {
  const { generation, resourceVersion, labels, annotations, ownerReferences } = metadata;
  const version = generation === undefined ? { resourceVersion } : { generation };
  return JSON.stringify({ ...version, labels, annotations, ownerReferences });
}

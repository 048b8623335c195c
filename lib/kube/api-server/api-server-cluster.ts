// `Cluster` over an API server. Reads and writes go to the server; watches of one resource with the same
// selectors share one list and one connection.
import { type Clock, type Random, systemClock } from "#lib/base/clock.ts";
import type { Logger } from "#lib/obs/log.ts";
import type {
  Cluster,
  KubeObject,
  ListOptions,
  PatchOptions,
  Resource,
  WatchHandler,
} from "../cluster.ts";
import { KubeError } from "../errors.ts";
import { isJsonObject, textOf } from "../json.ts";
import type { ApiServer, Method } from "./api-server.ts";
import { servedVersion } from "./discovery.ts";
import { parseWhole } from "./object-table.ts";
import { apiVersionOf, namespaceFor, objectPath, type Place, subjectOf } from "./paths.ts";
import { ServedVersions } from "./served-versions.ts";
import { SharedWatches } from "./shared-watches.ts";
import type { Keeps } from "./strip.ts";

export interface ApiServerClusterOptions {
  readonly log: Logger;
  /**
   * Of watched objects. The default is for programs that watch for ever, whose memory is dear; `everything`
   * for those that show objects to people.
   */
  readonly keeps?: Keeps;
  readonly clock?: Clock;
  readonly random?: Random;
}

export interface WriteOptions extends PatchOptions {
  /** Everything is checked, nothing is stored. */
  readonly dryRun?: boolean;
}

export interface DeleteOptions {
  /** Default `Background`: dependents go by garbage collection. */
  readonly propagationPolicy?: "Background" | "Foreground" | "Orphan";
  /** Only the object of this uid. @throws {KubeError} `CONFLICT` */
  readonly uid?: string;
  readonly resourceVersion?: string;
}

const PAGE_OBJECTS = 500;
const LIST_DEADLINE_MS = 60_000;

export class ApiServerCluster implements Cluster {
  readonly apiServer: ApiServer;
  readonly #log: Logger;
  readonly #versions = new ServedVersions();
  readonly #watches: SharedWatches;

  /** @param apiServer borrowed */
  constructor(apiServer: ApiServer, options: ApiServerClusterOptions) {
    this.apiServer = apiServer;
    this.#log = options.log;
    this.#watches = new SharedWatches({
      apiServer,
      versions: this.#versions,
      keeps: options.keeps ?? "what-the-mesh-reads",
      log: options.log,
      clock: options.clock ?? systemClock,
      random: options.random ?? Math.random,
    });
  }

  async get<T extends KubeObject>(
    resource: Resource<T>,
    namespace: string | null,
    name: string,
  ): Promise<T | null> {
    const place = { namespace: namespaceFor(resource, namespace), name };
    try {
      return await this.#one<T>(resource, "GET", "get", place, {});
    } catch (error) {
      if (error instanceof KubeError && error.status === 404) return null;
      throw error;
    }
  }

  /** A malformed object is left out and logged. Empty when the kind is not served. */
  async list<T extends KubeObject>(
    resource: Resource<T>,
    options: ListOptions = {},
  ): Promise<readonly T[]> {
    try {
      return await this.#list(resource, options);
    } catch (error) {
      if (!(error instanceof KubeError)) throw error;
      if (error.code === "EXPIRED") return this.#list(resource, options); // compacted between pages
      if (error.status === 404) return [];
      throw error;
    }
  }

  /**
   * Objects are stripped to what the mesh reads (`strip.ts`); those of a metadata-only resource to their
   * metadata. A kind that is not served is synced and empty, and begins when its CRD appears.
   * Rejects only with what `handler` throws.
   */
  async watch<T extends KubeObject>(
    resource: Resource<T>,
    handler: WatchHandler<T>,
    options: ListOptions & { readonly signal: AbortSignal },
  ): Promise<void> {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- only sees objects of its kind
    await this.#watches.watch(resource, handler as unknown as WatchHandler<KubeObject>, options);
  }

  /** @throws {KubeError} `ALREADY_EXISTS` */
  async create<T extends KubeObject>(
    resource: Resource<T>,
    object: T,
    options: Omit<WriteOptions, "subresource">,
  ): Promise<T> {
    const place = { namespace: namespaceFor(resource, object.metadata.namespace) };
    return this.#one<T>(resource, "POST", "create", place, {
      object,
      query: { fieldManager: options.fieldManager, ...dryRun(options) },
      name: object.metadata.name,
    });
  }

  /** Server-side apply, forced: our fields become ours, fields we no longer give are removed. */
  async apply<T extends KubeObject>(
    resource: Resource<T>,
    object: T,
    options: WriteOptions,
  ): Promise<T> {
    const { name, namespace } = object.metadata;
    const place = withSubresource({ namespace: namespaceFor(resource, namespace), name }, options);
    return this.#one<T>(resource, "PATCH", "patch", place, {
      object,
      query: { fieldManager: options.fieldManager, force: "true", ...dryRun(options) },
      contentType: "application/apply-patch+yaml",
    });
  }

  async patch<T extends KubeObject>(
    resource: Resource<T>,
    namespace: string | null,
    name: string,
    patch: unknown,
    options: WriteOptions,
  ): Promise<T> {
    const place = withSubresource({ namespace: namespaceFor(resource, namespace), name }, options);
    return this.#one<T>(resource, "PATCH", "patch", place, {
      body: patch,
      query: { fieldManager: options.fieldManager, ...dryRun(options) },
      contentType: "application/merge-patch+json",
    });
  }

  async delete(
    resource: Resource,
    namespace: string | null,
    name: string,
    options: DeleteOptions = {},
  ): Promise<void> {
    const place = { namespace: namespaceFor(resource, namespace), name };
    const { uid, resourceVersion, propagationPolicy = "Background" } = options;
    const preconditions = {
      ...(uid === undefined ? {} : { uid }),
      ...(resourceVersion === undefined ? {} : { resourceVersion }),
    };
    try {
      await this.#served(resource, (version) =>
        this.apiServer.text({
          method: "DELETE",
          path: objectPath(resource, version, place),
          body: { apiVersion: "v1", kind: "DeleteOptions", propagationPolicy, preconditions },
          subject: subjectOf("delete", resource, place),
        }),
      );
    } catch (error) {
      if (!(error instanceof KubeError) || error.status !== 404) throw error;
    }
  }

  async #one<T extends KubeObject>(
    resource: Resource<T>,
    method: Method,
    verb: string,
    place: Place,
    request: {
      /** Sent under the version that is served. */
      readonly object?: T;
      readonly body?: unknown;
      readonly query?: Readonly<Record<string, string>>;
      readonly contentType?: string;
      /** For messages, where the path has no name. */
      readonly name?: string;
    },
  ): Promise<T> {
    const { object, query, contentType, name } = request;
    const answer = await this.#served(resource, (version) => {
      const body =
        object === undefined
          ? request.body
          : { ...object, apiVersion: apiVersionOf(resource, version), kind: resource.kind };
      return this.apiServer.request({
        method,
        path: objectPath(resource, version, place),
        ...(query === undefined ? {} : { query }),
        ...(body === undefined ? {} : { body }),
        ...(contentType === undefined ? {} : { contentType }),
        subject: subjectOf(verb, resource, name === undefined ? place : { ...place, name }),
      });
    });
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- parsed as this kind
    return parseWhole(resource, answer) as T;
  }

  async #list<T extends KubeObject>(
    resource: Resource<T>,
    options: ListOptions,
  ): Promise<readonly T[]> {
    const place = { namespace: options.namespace ?? null };
    const result: T[] = [];
    let token: string | undefined;
    do {
      const page = await this.#served(resource, (version) =>
        this.apiServer.request({
          method: "GET",
          path: objectPath(resource, version, place),
          query: {
            labelSelector: options.labelSelector,
            fieldSelector: options.fieldSelector,
            limit: String(PAGE_OBJECTS),
            continue: token,
          },
          subject: subjectOf("list", resource, place),
          deadlineMs: LIST_DEADLINE_MS,
        }),
      );
      const { items, metadata } = isJsonObject(page) ? page : {};
      for (const item of Array.isArray(items) ? items : []) {
        try {
          // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- parsed as this kind
          result.push(parseWhole(resource, item) as T);
        } catch (error) {
          this.#log.warn({ error, kind: resource.kind }, "malformed object left out");
        }
      }
      token = isJsonObject(metadata) ? textOf(metadata.continue) : "";
    } while (token !== "");
    return result;
  }

  /** Asks again in another version when the one asked for is not served. */
  async #served<T>(resource: Resource, ask: (version: string) => Promise<T>): Promise<T> {
    const version = this.#versions.of(resource);
    try {
      return await ask(version);
    } catch (error) {
      if (!(error instanceof KubeError) || error.code !== "NOT_SERVED") throw error;
      const other = await servedVersion(this.apiServer, resource);
      if (other === null || other === version) throw error;
      this.#versions.use(resource, other);
      return ask(other);
    }
  }
}

function withSubresource(place: Place, { subresource }: PatchOptions): Place {
  return subresource === undefined ? place : { ...place, subresource };
}

function dryRun({ dryRun: isDry }: { readonly dryRun?: boolean }): Record<string, string> {
  return isDry === true ? { dryRun: "All" } : {};
}

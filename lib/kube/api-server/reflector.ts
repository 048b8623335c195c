// Follows one resource of the API server: lists, then watches from the version of the list, for ever.
// What it knows is shared by all watchers of the same resource and selectors.
//
//   list (pages of 500) ──> watch (bookmarks) ──ended──> watch again from the last version
//     ^                        │410 Gone            │fault: back-off, same version
//     └────────────────────────┘                    │404: kind is not served: empty, wait for its CRD
import type { IncomingMessage } from "node:http";
import { Backoff } from "#lib/base/backoff.ts";
import type { Clock, Random } from "#lib/base/clock.ts";
import type { KubeObject, ListOptions, Resource, WatchHandler } from "../cluster.ts";
import { KubeError } from "../errors.ts";
import { isJsonObject, type JsonObject, textOf } from "../json.ts";
import type { ApiServer } from "./api-server.ts";
import type { CrdNotices } from "./crd-notices.ts";
import { Deadline } from "./deadline.ts";
import { servedVersion } from "./discovery.ts";
import { JsonLines } from "./json-lines.ts";
import { ListPage } from "./list-page.ts";
import { ObjectTable, type TableChange } from "./object-table.ts";
import { objectPath, subjectOf } from "./paths.ts";
import type { ServedVersions } from "./served-versions.ts";
import type { Keeps } from "./strip.ts";
import type { Watchers } from "./watchers.ts";
import { parseWatchLine, versionOf } from "./watch-event.ts";

export interface ReflectorOptions {
  readonly apiServer: ApiServer;
  readonly resource: Resource;
  readonly selection: ListOptions;
  readonly versions: ServedVersions;
  /** `null` for the watch of the CRDs themselves. */
  readonly crds: CrdNotices | null;
  readonly watchers: Watchers;
  readonly keeps: Keeps;
  readonly clock: Clock;
  readonly random: Random;
}

const PAGE_OBJECTS = 500;
/** How long the server keeps a watch open: 5 to 10 minutes, so that clients do not return together. */
const WATCH_SECONDS = 300;
/** A watch that ends sooner has hardly been one: wait before the next. */
const SHORT_WATCH_MS = 1_000;
/** Beyond the time the server promised to end the watch. */
const OVERDUE_MS = 30_000;
const LIST_DEADLINE_MS = 60_000;
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 10_000;
/** Between looks for a kind whose CRD exists but is not served yet. */
const LONGEST_CRD_PAUSE_MS = 5_000;

export class Reflector {
  readonly #options: ReflectorOptions;
  readonly #table: ObjectTable;
  readonly #backoff: Backoff;
  readonly #crdBackoff: Backoff;
  /** Where the next watch continues; `null`: list first. */
  #from: string | null = null;
  #isSynced = false;
  /** Message of the fault the watchers were told of, "" while all is well. */
  #reported = "";
  #fault: Error | null = null;

  constructor(options: ReflectorOptions) {
    this.#options = options;
    this.#table = new ObjectTable(options.resource, options.keeps);
    const { random } = options;
    this.#backoff = new Backoff({
      startMs: FIRST_PAUSE_MS,
      maxMs: LONGEST_PAUSE_MS,
      jitter: 0.5,
      random,
    });
    this.#crdBackoff = new Backoff({
      startMs: FIRST_PAUSE_MS,
      maxMs: LONGEST_CRD_PAUSE_MS,
      random,
    });
  }

  /** Tells a new watcher what is known so far, as if it had been there from the start. */
  greet(handler: WatchHandler<KubeObject>): void {
    const objects = [...this.#table.objects()];
    for (const error of this.#table.errors()) handler.onError?.(error);
    if (this.#fault !== null) handler.onError?.(this.#fault);
    if (objects.length > 0)
      handler.onEvents(objects.map((object) => ({ type: "added" as const, object })));
    if (this.#isSynced) handler.onSynced();
  }

  /** Resolves when `signal` has aborted. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        if (this.#from === null) await this.#list(signal);
        else await this.#watch(this.#from, signal);
      } catch (error) {
        if (signal.aborted) return;
        await this.#recover(error, signal);
      }
    }
  }

  async #recover(error: unknown, signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    const isKube = error instanceof KubeError;
    if (isKube && error.status === 404) {
      try {
        return await this.#findServed(signal);
      } catch (cause) {
        if (signal.aborted) return;
        return this.#recover(
          cause instanceof KubeError && cause.status === 404 ? null : cause,
          signal,
        );
      }
    }
    if (isKube && error.code === "EXPIRED") {
      const wasWatching = this.#from !== null;
      this.#from = null;
      if (wasWatching) return; // list at once; only a list that expires too waits
    } else if (error !== null) this.#report(error);
    await clock.sleep(this.#backoff.next(), signal);
  }

  async #list(signal: AbortSignal): Promise<void> {
    this.#table.beginRelist();
    let token: string | undefined;
    let version: string;
    do {
      const page = await this.#page(token, signal);
      version = versionOf(page);
      token = isJsonObject(page.metadata) ? textOf(page.metadata.continue) : "";
      if (token === "") this.#table.endRelist();
      this.#publish(this.#table.takeChange());
    } while (token !== "");
    this.#from = version;
    this.#sync();
  }

  /** Puts the items into the table as they arrive. @returns what is around them */
  async #page(token: string | undefined, outer: AbortSignal): Promise<JsonObject> {
    const { apiServer, resource, selection, versions } = this.#options;
    const place = { namespace: selection.namespace ?? null };
    using limit = new Deadline(LIST_DEADLINE_MS, outer);
    const page = new ListPage();
    try {
      const response = await apiServer.stream({
        method: "GET",
        path: objectPath(resource, versions.of(resource), place),
        query: { ...selectors(selection), limit: String(PAGE_OBJECTS), continue: token },
        accept: accept(resource, "PartialObjectMetadataList"),
        subject: subjectOf("list", resource, place),
        signal: limit.signal,
      });
      for await (const chunk of response as AsyncIterable<Buffer>)
        for (const text of page.push(chunk)) {
          const item: unknown = JSON.parse(text);
          if (isJsonObject(item)) this.#table.put(item);
        }
      return page.finish();
    } catch (cause) {
      if (cause instanceof KubeError) throw cause;
      const what = `Cannot list ${resource.kind}: the answer`;
      if (limit.hasExpired)
        throw new KubeError("TIMEOUT", `${what} took more than ${LIST_DEADLINE_MS} ms`, { cause });
      throw new KubeError("UNAVAILABLE", `${what} broke off or is no JSON`, { cause });
    }
  }

  async #watch(from: string, signal: AbortSignal): Promise<void> {
    const { resource, clock, random } = this.#options;
    const seconds = Math.round(WATCH_SECONDS * (1 + random()));
    const response = await this.#open(from, seconds, signal);
    this.#recovered();
    const begun = clock.now();
    const overdue = setTimeout(() => response.destroy(), seconds * 1000 + OVERDUE_MS);
    try {
      const lines = new JsonLines();
      for await (const chunk of response as AsyncIterable<Buffer>) this.#read(lines.push(chunk));
    } catch (cause) {
      if (cause instanceof KubeError) throw cause;
      if (cause instanceof RangeError)
        throw new KubeError("UNAVAILABLE", `The watch of ${resource.plural} sent ${cause.message}`);
      // Connections break: the next watch says whether the server is gone.
    } finally {
      clearTimeout(overdue);
      response.destroy();
    }
    if (clock.now() - begun < SHORT_WATCH_MS && !signal.aborted)
      await clock.sleep(this.#backoff.next(), signal);
    else this.#backoff.reset();
  }

  #open(from: string, seconds: number, signal: AbortSignal): Promise<IncomingMessage> {
    const { apiServer, resource, selection, versions } = this.#options;
    const place = { namespace: selection.namespace ?? null };
    return apiServer.stream({
      method: "GET",
      path: objectPath(resource, versions.of(resource), place),
      query: {
        ...selectors(selection),
        watch: "true",
        allowWatchBookmarks: "true",
        resourceVersion: from,
        timeoutSeconds: String(seconds),
      },
      accept: accept(resource, "PartialObjectMetadata"),
      subject: subjectOf("watch", resource, place),
      signal,
    });
  }

  /** The events of one chunk are one batch. */
  #read(lines: readonly string[]): void {
    let failure: KubeError | null = null;
    try {
      for (const line of lines) {
        const event = parseWatchLine(line);
        if (event.type === "error") {
          failure = event.error;
          break;
        }
        if (event.type === "put") this.#table.put(event.object);
        else if (event.type === "deleted") this.#table.delete(event.object);
        const version = event.type === "bookmark" ? event.version : versionOf(event.object);
        if (version !== "") this.#from = version;
      }
    } finally {
      this.#publish(this.#table.takeChange());
    }
    if (failure !== null) throw failure;
  }

  /** The kind is not served as asked: in another version, or not until its CRD appears. */
  async #findServed(signal: AbortSignal): Promise<void> {
    const { apiServer, resource, versions, crds, clock } = this.#options;
    this.#from = null;
    const version = await servedVersion(apiServer, resource, signal);
    if (version !== null && version !== versions.of(resource)) {
      versions.use(resource, version);
      return;
    }
    versions.forget(resource);
    this.#table.beginRelist();
    this.#table.endRelist();
    this.#publish(this.#table.takeChange());
    this.#sync();
    if (version !== null || crds === null) {
      await clock.sleep(this.#backoff.next(), signal);
      return;
    }
    const isPresent = await crds.untilChanged(
      `${resource.plural}.${resource.group}`,
      this.#crdBackoff,
      signal,
    );
    if (!isPresent) this.#crdBackoff.reset();
  }

  #publish({ events, errors }: TableChange): void {
    const { watchers } = this.#options;
    for (const error of errors) watchers.each((handler) => handler.onError?.(error));
    if (events.length > 0) watchers.each((handler) => handler.onEvents(events));
  }

  #sync(): void {
    this.#recovered();
    if (this.#isSynced) return;
    this.#isSynced = true;
    this.#options.watchers.each((handler) => handler.onSynced());
  }

  /** Once per fault, however long it lasts. */
  #report(error: unknown): void {
    const fault = error instanceof Error ? error : new Error(String(error));
    this.#fault = fault;
    if (fault.message === this.#reported) return;
    this.#reported = fault.message;
    this.#options.watchers.each((handler) => handler.onError?.(fault));
  }

  #recovered(): void {
    this.#fault = null;
    this.#reported = "";
  }
}

function selectors({
  labelSelector,
  fieldSelector,
}: ListOptions): Record<string, string | undefined> {
  return { labelSelector, fieldSelector };
}

function accept(resource: Resource, as: string): string {
  return resource.metadataOnly === true
    ? `application/json;as=${as};g=meta.k8s.io;v=v1`
    : "application/json";
}

// The one view of Kubernetes that everything above it has, with two backends: a directory of
// manifests (directory-cluster.ts) and an API server (api-server/api-server-cluster.ts).

export interface ObjectMeta {
  readonly name: string;
  readonly namespace?: string;
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly generation?: number;
  readonly generateName?: string;
  /** RFC 3339. */
  readonly creationTimestamp?: string;
  readonly deletionTimestamp?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly ownerReferences?: readonly OwnerReference[];
}

export interface OwnerReference {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly uid: string;
  readonly controller?: boolean;
}

/** Any object, parsed and never patched in place: a change is a new object. */
export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: ObjectMeta;
}

/** One kind as an API server names it; `objects.ts` lists those the mesh uses. */
export interface Resource<T extends KubeObject = KubeObject> {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
  readonly namespaced: boolean;
  /** A watch asks for and keeps `metadata` alone. */
  readonly metadataOnly?: boolean;
  /** Never present at run time: carries the object's type. */
  readonly object?: T;
}

export interface ListOptions {
  readonly namespace?: string;
  /** `key=value`, `key!=value`, `key in (a,b)`, `key`, `!key`, comma separated. */
  readonly labelSelector?: string;
  /** `spec.nodeName=x` and the like. */
  readonly fieldSelector?: string;
}

export type WatchEvent<T extends KubeObject> =
  | { readonly type: "added" | "modified"; readonly object: T }
  /** `object` is the last known state. */
  | { readonly type: "deleted"; readonly object: T };

export interface WatchHandler<T extends KubeObject> {
  /** Called in order, one batch per observed change of the source. */
  onEvents(events: readonly WatchEvent<T>[]): void;
  /** Called once, after the initial objects went through `onEvents` as `added`. */
  onSynced(): void;
  /** The source cannot be read or holds something malformed; the last good state stays. */
  onError?(error: Error): void;
}

export interface PatchOptions {
  readonly fieldManager: string;
  readonly subresource?: "status";
}

export interface Cluster {
  get<T extends KubeObject>(
    resource: Resource<T>,
    namespace: string | null,
    name: string,
  ): Promise<T | null>;
  list<T extends KubeObject>(resource: Resource<T>, options?: ListOptions): Promise<readonly T[]>;
  /** Lists, then watches until `signal` aborts. Resolves when the watch has ended; never rejects for passing faults. */
  watch<T extends KubeObject>(
    resource: Resource<T>,
    handler: WatchHandler<T>,
    options: ListOptions & { readonly signal: AbortSignal },
  ): Promise<void>;
  /** Creates or replaces the fields given (server-side apply, forced). Returns the stored object. */
  apply<T extends KubeObject>(resource: Resource<T>, object: T, options: PatchOptions): Promise<T>;
  /**
   * RFC 7386 merge patch. With `subresource: "status"` only `status`, labels and annotations count.
   * A `metadata.resourceVersion` in the patch must still be the object's.
   * @throws {KubeError} `NOT_FOUND`; `CONFLICT` when the object has another version by now
   */
  patch<T extends KubeObject>(
    resource: Resource<T>,
    namespace: string | null,
    name: string,
    patch: unknown,
    options: PatchOptions,
  ): Promise<T>;
  /** Succeeds when the object is already gone. */
  delete(resource: Resource, namespace: string | null, name: string): Promise<void>;
}

// Server-side apply as the CLI's own field manager, with what changed read from the object's version.
import type { KubeObject, Resource } from "#lib/kube/cluster.ts";
import type { Change } from "./apply-object.ts";
import type { Kube } from "./connect.ts";
import { FIELD_MANAGER } from "./open-cluster.ts";

export interface ServerApplyOptions {
  /** The API server checks and admits, and keeps nothing. */
  readonly dryRun: boolean;
  readonly signal?: AbortSignal | undefined;
}

export interface ServerApplied {
  readonly change: Change;
  /** As it is, or would be, stored. */
  readonly object: KubeObject;
  readonly before: KubeObject | null;
}

/** @throws {KubeError} INVALID naming the field, FORBIDDEN, NOT_SERVED … */
export async function serverSideApply(
  kube: Pick<Kube, "server" | "cluster" | "namespace">,
  resource: Resource,
  object: KubeObject,
  { dryRun, signal }: ServerApplyOptions,
): Promise<ServerApplied> {
  const { name } = object.metadata;
  const namespace = resource.namespaced ? (object.metadata.namespace ?? kube.namespace) : null;
  const before = await kube.cluster.get(resource, namespace, name);
  const { group, kind, plural } = resource;
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what was applied comes back
  const stored = (await kube.server.request({
    method: "PATCH",
    path: objectPath(resource, namespace, name),
    query: {
      fieldManager: FIELD_MANAGER,
      force: "true",
      fieldValidation: "Strict",
      dryRun: dryRun ? "All" : undefined,
    },
    body: object,
    contentType: "application/apply-patch+yaml",
    subject: { verb: "patch", kind, group, resource: plural, namespace, name },
    ...(signal === undefined ? {} : { signal }),
  })) as KubeObject;
  return { change: changeOf(before, stored, dryRun), object: stored, before };
}

function changeOf(before: KubeObject | null, stored: KubeObject, dryRun: boolean): Change {
  if (before === null) return "created";
  // A new version may differ in who owns which field, or in nothing at all.
  const isVersion = !dryRun && before.metadata.resourceVersion === stored.metadata.resourceVersion;
  return isVersion || comparable(before) === comparable(stored) ? "unchanged" : "configured";
}

export function objectPath(resource: Resource, namespace: string | null, name: string): string {
  const { group, version, plural } = resource;
  const root = group === "" ? `/api/${version}` : `/apis/${group}/${version}`;
  const within = namespace === null ? "" : `/namespaces/${encodeURIComponent(namespace)}`;
  return `${root}${within}/${plural}/${encodeURIComponent(name)}`;
}

/** What a person sees of an object: without the server's bookkeeping and without status. */
export function described(o: KubeObject): Record<string, unknown> {
  const { status: _s, ...rest } = o as KubeObject & { readonly status?: unknown };
  const metadata: Record<string, unknown> = { ...o.metadata };
  for (const key of BOOKKEEPING) delete metadata[key];
  const { [TEMPLATE_COUNTER]: _t, ...annotations } = o.metadata.annotations ?? {};
  if (Object.keys(annotations).length > 0) metadata["annotations"] = annotations;
  else delete metadata["annotations"];
  return { ...rest, metadata };
}

/** Set by the API server on DaemonSets. */
const TEMPLATE_COUNTER = "deprecated.daemonset.template.generation";
const BOOKKEEPING = ["managedFields", "resourceVersion", "generation", "uid", "creationTimestamp"];

function comparable(o: KubeObject): string {
  return JSON.stringify(sorted(described(o)));
}

export function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).filter(([, v]) => v !== undefined);
  return Object.fromEntries(
    entries.sort(([a], [b]) => (a < b ? -1 : 1)).map(([k, v]) => [k, sorted(v)]),
  );
}

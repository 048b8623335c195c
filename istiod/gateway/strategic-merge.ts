// Kubernetes' strategic merge patch for the kinds a Gateway is deployed as. No library on npm offers it.
// Source: k8s.io/apimachinery pkg/util/strategicpatch; the keys are the `patchMergeKey` tags of k8s.io/api.
import { isJsonObject, type Json, type JsonObject } from "#lib/kube/json.ts";

/** How a field merges. Without `by`, lists are replaced and mappings merge. */
interface Shape {
  /** A list of mappings told apart by this member, or a list of values that is a set. */
  readonly by?: { readonly key: string } | "value";
  /** A mapping that is replaced as a whole. */
  readonly replaced?: true;
  readonly fields?: Readonly<Record<string, Shape>>;
}

const METADATA: Shape = {
  fields: { finalizers: { by: "value" }, ownerReferences: { by: { key: "uid" } } },
};
const CONTAINERS: Shape = {
  by: { key: "name" },
  fields: {
    env: { by: { key: "name" } },
    ports: { by: { key: "containerPort" } },
    volumeDevices: { by: { key: "devicePath" } },
    volumeMounts: { by: { key: "mountPath" } },
  },
};
const POD_SPEC: Shape = {
  fields: {
    containers: CONTAINERS,
    ephemeralContainers: CONTAINERS,
    hostAliases: { by: { key: "ip" } },
    imagePullSecrets: { by: { key: "name" } },
    initContainers: CONTAINERS,
    resourceClaims: { by: { key: "name" } },
    schedulingGates: { by: { key: "name" } },
    topologySpreadConstraints: { by: { key: "topologyKey" } },
    volumes: { by: { key: "name" } },
  },
};
const TEMPLATE: Shape = { fields: { metadata: METADATA, spec: POD_SPEC } };

/** By kind. */
const SHAPES: Readonly<Record<string, Shape>> = {
  Deployment: { fields: { metadata: METADATA, spec: { fields: { template: TEMPLATE } } } },
  Service: { fields: { metadata: METADATA, spec: { fields: { ports: { by: { key: "port" } } } } } },
  ServiceAccount: { fields: { metadata: METADATA, secrets: { by: { key: "name" } } } },
  HorizontalPodAutoscaler: { fields: { metadata: METADATA } },
  PodDisruptionBudget: {
    fields: { metadata: METADATA, spec: { fields: { selector: { replaced: true } } } },
  },
};
const PLAIN: Shape = {};

/** What makes a patch none: the path and the reason. */
export class MergeError extends Error {
  override readonly name = "MergeError";

  constructor(path: string, reason: string) {
    super(`${path === "" ? "the patch" : path} ${reason}`);
  }
}

/** Neither argument is changed. @throws {MergeError} */
export function strategicMerge(object: JsonObject, patch: JsonObject): JsonObject {
  const kind = typeof object["kind"] === "string" ? object["kind"] : "";
  return mergeMapping(object, patch, SHAPES[kind] ?? PLAIN, "");
}

const DIRECTIVE = "$patch";
const ORDER = "$setElementOrder/";
const DELETE = "$deleteFromPrimitiveList/";
const RETAIN = "$retainKeys";

function mergeMapping(old: JsonObject, patch: JsonObject, shape: Shape, path: string): JsonObject {
  const directive = patch[DIRECTIVE];
  if (directive === "delete") return {};
  if (directive !== undefined && directive !== "replace")
    throw new MergeError(path, `has an unknown $patch: ${JSON.stringify(directive)}`);
  const result: JsonObject = directive === "replace" ? {} : { ...old };
  retainKeys(result, patch, path);
  for (const [key, value] of Object.entries(patch)) {
    const at = join(path, key);
    if (key === "__proto__") throw new MergeError(at, "is no field");
    if (key.startsWith("$")) continue;
    const field = shape.fields?.[key] ?? PLAIN;
    const merged = mergeField(result[key], value, field, patch[`${ORDER}${key}`], at);
    if (merged === undefined) delete result[key];
    else result[key] = merged;
  }
  applyBareDirectives(result, patch, shape, path);
  return result;
}

/** @returns `undefined` when the field goes */
function mergeField(
  before: Json | undefined,
  value: Json,
  shape: Shape,
  order: Json | undefined,
  path: string,
): Json | undefined {
  if (value === null) return undefined;
  if (Array.isArray(value))
    return mergeList(Array.isArray(before) ? before : [], value, shape, order, path);
  if (!isJsonObject(value)) return value;
  if (isJsonObject(before))
    return mergeMapping(shape.replaced === true ? {} : before, value, shape, path);
  return value[DIRECTIVE] === "delete" ? undefined : mergeMapping({}, value, shape, path);
}

/** As a volume needs that gets another source. */
function retainKeys(result: JsonObject, patch: JsonObject, path: string): void {
  const retained = patch[RETAIN];
  if (retained === undefined) return;
  const names = listOf(retained, join(path, RETAIN));
  for (const key of Object.keys(result)) if (!names.includes(key)) delete result[key];
}

function mergeList(
  old: readonly Json[],
  patch: readonly Json[],
  shape: Shape,
  order: Json | undefined,
  path: string,
): Json[] {
  const { by } = shape;
  if (by === undefined) return [...patch];
  const wanted = order === undefined ? null : listOf(order, path);
  if (by === "value") return inOrder([...new Set([...old, ...patch])], wanted ?? patch, old, shape);
  const entries = patch.map((entry, i) => {
    if (!isJsonObject(entry)) throw new MergeError(`${path}[${i}]`, "is no mapping");
    return entry;
  });
  const given = entries.filter((entry) => entry[DIRECTIVE] === undefined);
  if (entries.some((entry) => entry[DIRECTIVE] === "replace"))
    return given.map((entry, i) => mergeMapping({}, entry, shape, `${path}[${i}]`));
  let kept = [...old];
  const result = new Map<Json, Json>();
  for (const [i, entry] of entries.entries()) {
    const at = `${path}[${i}]`;
    const id = entry[by.key];
    if (id === undefined || id === null)
      throw new MergeError(at, `has no ${by.key}, which tells entries apart`);
    if (entry[DIRECTIVE] === "delete") kept = kept.filter((o) => idOf(o, shape) !== id);
    else {
      const before = result.get(id) ?? kept.find((o) => idOf(o, shape) === id);
      result.set(id, mergeMapping(isJsonObject(before) ? before : {}, entry, shape, at));
    }
  }
  const all = kept.map((o) => result.get(idOf(o, shape)) ?? o);
  for (const [id, entry] of result) if (!kept.some((o) => idOf(o, shape) === id)) all.push(entry);
  return inOrder(all, wanted ?? given, kept, shape);
}

/**
 * What the patch names comes in its order; each other entry keeps its place before those that followed it.
 * @param all   the merged list
 * @param named entries, or their keys alone
 * @param old   the list before
 */
function inOrder(
  all: readonly Json[],
  named: readonly Json[],
  old: readonly Json[],
  shape: Shape,
): Json[] {
  const ids = named.map((entry) => idOf(entry, shape));
  const place = (entry: Json): number => ids.indexOf(idOf(entry, shape));
  const oldIds = old.map((entry) => idOf(entry, shape));
  const left = all.filter((entry) => place(entry) < 0);
  const right = all.filter((entry) => place(entry) >= 0).sort((a, b) => place(a) - place(b));
  const result: Json[] = [];
  let i = 0;
  for (const entry of right) {
    const at = oldIds.indexOf(idOf(entry, shape));
    for (; at >= 0 && i < left.length; i++) {
      const other = left[i] ?? null;
      if (oldIds.indexOf(idOf(other, shape)) > at) break;
      result.push(other);
    }
    result.push(entry);
  }
  return [...result, ...left.slice(i)];
}

/** Directives about lists that the patch has no entries for. */
function applyBareDirectives(
  result: JsonObject,
  patch: JsonObject,
  shape: Shape,
  path: string,
): void {
  for (const [key, value] of Object.entries(patch)) {
    const prefix = [DELETE, ORDER].find((p) => key.startsWith(p));
    if (prefix === undefined) continue;
    const names = listOf(value, join(path, key));
    const name = key.slice(prefix.length);
    const list = result[name];
    const field = shape.fields?.[name] ?? PLAIN;
    if (!Array.isArray(list) || field.by === undefined) continue;
    if (prefix === DELETE) result[name] = list.filter((entry) => !names.includes(entry));
    else if (patch[name] === undefined) result[name] = inOrder(list, names, list, field);
  }
}

function idOf(entry: Json, { by }: Shape): Json {
  return typeof by === "object" && isJsonObject(entry) ? (entry[by.key] ?? null) : entry;
}

function listOf(value: Json, path: string): readonly Json[] {
  if (!Array.isArray(value)) throw new MergeError(path, "is no list");
  return value;
}

function join(path: string, key: string): string {
  return path === "" ? key : `${path}.${key}`;
}

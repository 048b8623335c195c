// What `apply` and `patch` make of the stored object and the fields given: a simplified server-side
// apply, and RFC 7386 merge patch.
import type { PatchOptions } from "./cluster.ts";
import { isJsonObject, type Json, type JsonObject, mergePatch } from "./json.ts";

/** Fields only the store sets. */
const STORE_OWNED = new Set(["uid", "resourceVersion", "generation", "creationTimestamp"]);

/**
 * Mappings merge, lists are replaced, except `status.conditions`, which merge by `type`. Nothing is
 * removed that is not given: field ownership is not tracked, so removal is `patch` with `null`.
 */
export function applied(
  current: JsonObject | null,
  given: JsonObject,
  options: PatchOptions,
): JsonObject {
  if (options.subresource === "status") {
    const base = current ?? given;
    const described = merge(base, statusMetadata(given)) as JsonObject;
    return { ...described, ...mergeStatus(current, given) };
  }
  const { metadata, status, ...rest } = given;
  const ours: JsonObject = {};
  for (const [key, value] of Object.entries(isJsonObject(metadata) ? metadata : {}))
    if (current === null || !STORE_OWNED.has(key)) ours[key] = value;
  const merged = merge(current ?? {}, { ...rest, metadata: ours }) as JsonObject;
  return status === undefined ? merged : { ...merged, ...mergeStatus(current, given) };
}

/** @param patch kept */
export function patched(current: JsonObject, patch: JsonObject, options: PatchOptions): JsonObject {
  if (options.subresource === undefined) return mergePatch(current, patch) as JsonObject;
  const { status } = patch;
  const given = { ...statusMetadata(patch), ...(status === undefined ? {} : { status }) };
  return mergePatch(current, given) as JsonObject;
}

/** What an API server takes of the metadata of a status write; it leaves everything else as it is. */
function statusMetadata({ metadata }: JsonObject): JsonObject {
  if (!isJsonObject(metadata)) return {};
  const { labels, annotations } = metadata;
  return {
    metadata: {
      ...(labels === undefined ? {} : { labels }),
      ...(annotations === undefined ? {} : { annotations }),
    },
  };
}

function mergeStatus(current: JsonObject | null, given: JsonObject): JsonObject {
  if (!isJsonObject(given.status)) return {};
  const old = isJsonObject(current?.status) ? current.status : {};
  const status = merge(old, given.status) as JsonObject;
  const { conditions } = given.status;
  if (Array.isArray(conditions) && Array.isArray(old.conditions))
    status.conditions = mergeByType(old.conditions, conditions);
  return { status };
}

function mergeByType(old: readonly Json[], given: readonly Json[]): Json[] {
  const typeOf = (entry: Json): Json | undefined => (isJsonObject(entry) ? entry.type : undefined);
  const result = old.map((entry) => given.find((g) => typeOf(g) === typeOf(entry)) ?? entry);
  for (const entry of given) if (!old.some((o) => typeOf(o) === typeOf(entry))) result.push(entry);
  return result;
}

function merge(old: Json | undefined, given: Json): Json {
  if (!isJsonObject(old) || !isJsonObject(given)) return given;
  const result: JsonObject = { ...old };
  for (const [key, value] of Object.entries(given)) result[key] = merge(result[key], value);
  return result;
}

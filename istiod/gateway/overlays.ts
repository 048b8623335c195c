// What ConfigMaps change in the objects made for a Gateway: strategic merge patches by kind, those of
// the class first, then those the Gateway names.
import { parseDocument } from "yaml";
import { isJsonObject, type Json, type JsonObject, sameJson } from "#lib/kube/json.ts";
import { type ConfigMap, type Gateway, objectName } from "#lib/kube/objects.ts";
import { strategicMerge } from "#lib/kube/strategic-merge.ts";
import { MANAGED } from "./keys.ts";

/** Keys of an overlay's data. */
const OVERLAY_KEYS = [
  "deployment",
  "service",
  "serviceAccount",
  "horizontalPodAutoscaler",
  "podDisruptionBudget",
] as const;
export type OverlayKey = (typeof OVERLAY_KEYS)[number];

export interface Overlay {
  /** For messages: `ConfigMap shop/options`. */
  readonly from: string;
  readonly patches: ReadonlyMap<OverlayKey, JsonObject>;
}

/** Says what is wrong with the parameters of a Gateway; its message goes into the status. */
export class ParametersError extends Error {
  override readonly name = "ParametersError";
}

/** An overlay may not change these: other parts rely on them, or the API server refuses. */
const PROTECTED = [
  "name",
  "namespace",
  "uid",
  "resourceVersion",
  "ownerReferences",
  "finalizers",
  "managedFields",
] as const;
/** Of one overlay. Patches are a page, not a book. */
const MAX_CHARS = 256 * 1024;

/** @throws {ParametersError} for a key that is none of `OVERLAY_KEYS` or a value that is no patch */
export function parseOverlay(configMap: ConfigMap): Overlay {
  const from = `ConfigMap ${objectName(configMap)}`;
  const patches = new Map<OverlayKey, JsonObject>();
  for (const [key, text] of Object.entries(configMap.data ?? {})) {
    const known = OVERLAY_KEYS.find((k) => k === key);
    if (known === undefined)
      throw new ParametersError(
        `${from} has the key ${JSON.stringify(key)}, expected ${OVERLAY_KEYS.join(", ")}`,
      );
    patches.set(known, parsePatch(text, `${from}, ${key}`));
  }
  return { from, patches };
}

function parsePatch(text: string, where: string): JsonObject {
  if (text.length > MAX_CHARS)
    throw new ParametersError(`${where} has ${text.length} characters, at most ${MAX_CHARS}`);
  let value: Json;
  try {
    const document = parseDocument(text, { stringKeys: true });
    const [broken] = document.errors;
    if (broken !== undefined) throw broken;
    value = (document.toJS({ maxAliasCount: 100 }) ?? {}) as Json;
  } catch (cause) {
    const [reason = ""] = (cause instanceof Error ? cause.message : String(cause)).split("\n", 1);
    throw new ParametersError(`${where} is no YAML: ${reason}`, { cause });
  }
  if (!isJsonObject(value)) throw new ParametersError(`${where} is no mapping`);
  return value;
}

/** @throws {ParametersError} naming the overlay and the field when it changes what it may not */
export function overlaid(
  object: JsonObject,
  key: OverlayKey,
  overlays: readonly Overlay[],
): JsonObject {
  let result = object;
  for (const { from, patches } of overlays) {
    const patch = patches.get(key);
    if (patch === undefined) continue;
    try {
      result = strategicMerge(result, patch);
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new ParametersError(`${from}, ${key}: ${reason}`, { cause });
    }
    const changed = forbiddenChange(object, result);
    if (changed !== null)
      throw new ParametersError(`${from}, ${key}: ${changed} cannot be changed by an overlay`);
  }
  return result;
}

function forbiddenChange(before: JsonObject, after: JsonObject): string | null {
  for (const field of ["apiVersion", "kind"]) if (before[field] !== after[field]) return field;
  const [old, now] = [mapping(before["metadata"]), mapping(after["metadata"])];
  for (const field of PROTECTED) if (!sameJson(old[field], now[field])) return `metadata.${field}`;
  // Without it the object would not be ours at the next look.
  if (mapping(old["labels"])[MANAGED] !== mapping(now["labels"])[MANAGED])
    return `the label ${MANAGED}`;
  return null;
}

function mapping(value: Json | undefined): JsonObject {
  return isJsonObject(value) ? value : {};
}

export type Parameters =
  | { readonly kind: "overlays"; readonly overlays: readonly Overlay[] }
  /** Nothing is made for the Gateway, and its status has the message. */
  | { readonly kind: "invalid"; readonly message: string }
  /** The ConfigMap has not been looked for yet. */
  | { readonly kind: "unknown" };

/**
 * @param defaults  ConfigMaps of the Gateway's class; the oldest one counts
 * @param find      the ConfigMap of that name in the Gateway's namespace: `null` when there is none,
 *                  `undefined` when that is not known yet
 */
export function parametersOf(
  gateway: Gateway,
  defaults: readonly ConfigMap[],
  find: (name: string) => ConfigMap | null | undefined,
): Parameters {
  const layers = [...defaults].sort(olderFirst).slice(0, 1);
  const ref = gateway.spec?.infrastructure?.parametersRef;
  if (ref !== undefined) {
    if (ref.kind !== "ConfigMap" || ref.group !== "") {
      const kind = ref.group === "" ? ref.kind : `${ref.group}/${ref.kind}`;
      return invalid(`infrastructure.parametersRef names a ${kind}, expected a ConfigMap`);
    }
    const configMap = find(ref.name);
    if (configMap === undefined) return { kind: "unknown" };
    if (configMap === null)
      return invalid(
        `infrastructure.parametersRef names ConfigMap ${gateway.metadata.namespace}/${ref.name}, which does not exist`,
      );
    layers.push(configMap);
  }
  try {
    return { kind: "overlays", overlays: layers.map(parseOverlay) };
  } catch (error) {
    if (error instanceof ParametersError) return invalid(error.message);
    throw error;
  }
}

function invalid(message: string): Parameters {
  return { kind: "invalid", message };
}

function olderFirst(a: ConfigMap, b: ConfigMap): number {
  const by = (x: string, y: string): number => (x < y ? -1 : x > y ? 1 : 0);
  const [m, n] = [a.metadata, b.metadata];
  return by(m.creationTimestamp ?? "", n.creationTimestamp ?? "") || by(m.name, n.name);
}

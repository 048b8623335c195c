// Kubernetes' strategic merge patch, as far as manifests use it: lists of built-in kinds merge by their keys.
import { isJsonObject, type Json, type JsonObject } from "#lib/kube/json.ts";
import { groupOfObject } from "./object-id.ts";

/** Where lists merge by a key, by the list's name; all other lists are replaced. Source: patchMergeKey in k8s.io/api. */
const MERGE_KEYS: Readonly<Record<string, readonly string[]>> = {
  containers: ["name"],
  initContainers: ["name"],
  ephemeralContainers: ["name"],
  env: ["name"],
  volumes: ["name"],
  volumeMounts: ["mountPath"],
  volumeDevices: ["devicePath"],
  ports: ["containerPort", "port"],
  hostAliases: ["ip"],
  imagePullSecrets: ["name"],
  secrets: ["name"],
  topologySpreadConstraints: ["topologyKey"],
  resourceClaims: ["name"],
  ownerReferences: ["uid"],
  conditions: ["type"],
  taints: ["key"],
};

/** Lists of plain values that merge as sets. */
const MERGE_SETS = new Set(["finalizers"]);

/** Groups whose lists follow `MERGE_KEYS`; of all others a list is replaced, as in RFC 7386. */
const BUILT_IN = /^(|apps|batch|autoscaling|policy|[a-z.]+\.k8s\.io)$/;

/** Neither argument is changed. `null` in the patch removes, `$patch: delete|replace` do what they say. */
export function strategicMerge(target: JsonObject, patch: JsonObject): JsonObject {
  const group = groupOfObject(target);
  return merge(target, patch, BUILT_IN.test(group) && !group.startsWith("gateway."));
}

function merge(target: JsonObject, patch: JsonObject, byKey: boolean): JsonObject {
  const { $patch: directive, ...given } = patch;
  if (directive === "replace") return given;
  const result: JsonObject = { ...target };
  for (const [key, value] of Object.entries(given)) {
    if (value === null) {
      delete result[key];
      continue;
    }
    const old = result[key];
    if (isJsonObject(value)) {
      if (value["$patch"] === "delete") delete result[key];
      else result[key] = merge(isJsonObject(old) ? old : {}, value, byKey);
    } else if (Array.isArray(value) && byKey)
      result[key] = mergeList(key, Array.isArray(old) ? old : [], value);
    else result[key] = value;
  }
  return result;
}

function mergeList(name: string, old: readonly Json[], given: readonly Json[]): Json[] {
  if (MERGE_SETS.has(name)) return [...old, ...given.filter((g) => !old.includes(g))];
  const keys = MERGE_KEYS[name];
  const key = keys?.find((k) => given.some((g) => isJsonObject(g) && g[k] !== undefined));
  if (key === undefined || !given.every(isJsonObject)) return [...given];
  if (given.some((g) => g["$patch"] === "replace" && Object.keys(g).length === 1))
    return given.filter((g) => g["$patch"] === undefined);
  // As kustomize does: what the patch names comes first, in its order.
  const rest: Json[] = [...old];
  const first: Json[] = [];
  for (const entry of given) {
    const at = rest.findIndex((o) => isJsonObject(o) && isSame(o, entry, key));
    const [before] = at < 0 ? [] : rest.splice(at, 1);
    if (entry["$patch"] === "delete") continue;
    first.push(merge(isJsonObject(before) ? before : {}, entry, true));
  }
  return [...first, ...rest];
}

/** Ports are told apart by their protocol as well. */
function isSame(a: JsonObject, b: JsonObject, key: string): boolean {
  return a[key] === b[key] && (a["protocol"] ?? "TCP") === (b["protocol"] ?? "TCP");
}

// Kubernetes' strategic merge patch, as kubectl applies it and as kustomize does. No library on npm offers it.
// Source: k8s.io/apimachinery pkg/util/strategicpatch; sigs.k8s.io/kustomize kyaml/yaml/merge2.
import { isJsonObject, type Json, type JsonObject } from "./json.ts";
import { PLAIN, type Shape, shapeOf } from "./merge-shapes.ts";

/**
 * Whose way it is done in where the two differ. In kustomize, what a patch names comes first in its list,
 * ports differ by protocol too (TCP where there is none: kustomize itself would add a second one), no
 * mapping is replaced unasked, and one with `$patch: delete` goes, which kubectl empties.
 */
export type Dialect = "kubectl" | "kustomize";

/** What makes a patch none: the path and the reason. */
export class MergeError extends Error {
  override readonly name = "MergeError";

  constructor(path: string, reason: string) {
    super(`${path === "" ? "the patch" : path} ${reason}`);
  }
}

/** Neither argument is changed. @throws {MergeError} */
export function strategicMerge(
  object: JsonObject,
  patch: JsonObject,
  dialect: Dialect = "kubectl",
): JsonObject {
  const { apiVersion, kind } = object;
  const isKnown = typeof apiVersion === "string" && typeof kind === "string";
  const shape = isKnown ? shapeOf(apiVersion, kind) : PLAIN;
  return new Merge(dialect).mapping(object, patch, shape, "");
}

const DIRECTIVE = "$patch";
const ORDER = "$setElementOrder/";
const DELETE = "$deleteFromPrimitiveList/";
const RETAIN = "$retainKeys";

class Merge {
  readonly #isKustomize: boolean;

  constructor(dialect: Dialect) {
    this.#isKustomize = dialect === "kustomize";
  }

  mapping(old: JsonObject, patch: JsonObject, shape: Shape, path: string): JsonObject {
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
      const merged = this.#field(result[key], value, field, patch[`${ORDER}${key}`], at);
      if (merged === undefined) delete result[key];
      else result[key] = merged;
    }
    this.#applyBareDirectives(result, patch, shape, path);
    return result;
  }

  /** @returns `undefined` when the field goes */
  #field(
    before: Json | undefined,
    value: Json,
    shape: Shape,
    order: Json | undefined,
    path: string,
  ): Json | undefined {
    if (value === null) return undefined;
    if (Array.isArray(value))
      return this.#list(Array.isArray(before) ? before : [], value, shape, order, path);
    if (!isJsonObject(value)) return value;
    if (this.#isKustomize && value[DIRECTIVE] === "delete") return undefined;
    if (isJsonObject(before)) {
      const isReplaced = shape.replaced === true && !this.#isKustomize;
      return this.mapping(isReplaced ? {} : before, value, shape, path);
    }
    return value[DIRECTIVE] === "delete" ? undefined : this.mapping({}, value, shape, path);
  }

  #list(
    old: readonly Json[],
    patch: readonly Json[],
    shape: Shape,
    order: Json | undefined,
    path: string,
  ): Json[] {
    const { by } = shape;
    if (by === undefined) return [...patch];
    const wanted = order === undefined ? null : listOf(order, path);
    if (by === "value")
      return this.#inOrder([...new Set([...old, ...patch])], wanted ?? patch, old, shape);
    const entries = patch.map((entry, i) => {
      if (!isJsonObject(entry)) throw new MergeError(`${path}[${i}]`, "is no mapping");
      return entry;
    });
    const given = entries.filter((entry) => entry[DIRECTIVE] === undefined);
    if (entries.some((entry) => entry[DIRECTIVE] === "replace"))
      return given.map((entry, i) => this.mapping({}, entry, shape, `${path}[${i}]`));
    let kept = [...old];
    const result = new Map<Json, Json>();
    for (const [i, entry] of entries.entries()) {
      const at = `${path}[${i}]`;
      const key = entry[by.key];
      if (key === undefined || key === null)
        throw new MergeError(at, `has no ${by.key}, which tells entries apart`);
      const id = this.#idOf(entry, shape);
      if (entry[DIRECTIVE] === "delete") kept = kept.filter((o) => this.#idOf(o, shape) !== id);
      else {
        const before = result.get(id) ?? kept.find((o) => this.#idOf(o, shape) === id);
        result.set(id, this.mapping(isJsonObject(before) ? before : {}, entry, shape, at));
      }
    }
    const all = kept.map((o) => result.get(this.#idOf(o, shape)) ?? o);
    for (const [id, entry] of result)
      if (!kept.some((o) => this.#idOf(o, shape) === id)) all.push(entry);
    return this.#inOrder(all, wanted ?? given, kept, shape);
  }

  /**
   * What the patch names comes in its order; each other entry keeps its place before those that followed it,
   * or comes after all of them where it is done kustomize's way.
   * @param all   the merged list
   * @param named entries, or their keys alone
   * @param old   the list before
   */
  #inOrder(
    all: readonly Json[],
    named: readonly Json[],
    old: readonly Json[],
    shape: Shape,
  ): Json[] {
    const ids = named.map((entry) => this.#idOf(entry, shape));
    const place = (entry: Json): number => ids.indexOf(this.#idOf(entry, shape));
    const oldIds = old.map((entry) => this.#idOf(entry, shape));
    const left = all.filter((entry) => place(entry) < 0);
    const right = all.filter((entry) => place(entry) >= 0).sort((a, b) => place(a) - place(b));
    const result: Json[] = [];
    let i = 0;
    for (const entry of right) {
      const at = oldIds.indexOf(this.#idOf(entry, shape));
      for (; at >= 0 && i < left.length && !this.#isKustomize; i++) {
        const other = left[i] ?? null;
        if (oldIds.indexOf(this.#idOf(other, shape)) > at) break;
        result.push(other);
      }
      result.push(entry);
    }
    return [...result, ...left.slice(i)];
  }

  /** Directives about lists that the patch has no entries for. */
  #applyBareDirectives(result: JsonObject, patch: JsonObject, shape: Shape, path: string): void {
    for (const [key, value] of Object.entries(patch)) {
      const prefix = [DELETE, ORDER].find((p) => key.startsWith(p));
      if (prefix === undefined) continue;
      const names = listOf(value, join(path, key));
      const name = key.slice(prefix.length);
      const list = result[name];
      const field = shape.fields?.[name] ?? PLAIN;
      if (!Array.isArray(list) || field.by === undefined) continue;
      if (prefix === DELETE) result[name] = list.filter((entry) => !names.includes(entry));
      else if (patch[name] === undefined) result[name] = this.#inOrder(list, names, list, field);
    }
  }

  #idOf(entry: Json, { by }: Shape): Json {
    if (typeof by !== "object" || !isJsonObject(entry)) return entry;
    const key = entry[by.key] ?? null;
    const isByProtocol = this.#isKustomize && by.hasProtocol === true;
    return isByProtocol ? JSON.stringify([key, entry["protocol"] ?? "TCP"]) : key;
  }
}

/** As a volume needs that gets another source. */
function retainKeys(result: JsonObject, patch: JsonObject, path: string): void {
  const retained = patch[RETAIN];
  if (retained === undefined) return;
  const names = listOf(retained, join(path, RETAIN));
  for (const key of Object.keys(result)) if (!names.includes(key)) delete result[key];
}

function listOf(value: Json, path: string): readonly Json[] {
  if (!Array.isArray(value)) throw new MergeError(path, "is no list");
  return value;
}

function join(path: string, key: string): string {
  return path === "" ? key : `${path}.${key}`;
}

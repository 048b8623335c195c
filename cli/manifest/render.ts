// Makes the objects of a kustomization directory: resources, then components, patches, namespace, labels, images.
import { readFile, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { parseAllDocuments } from "yaml";
import { isJsonObject, type Json, type JsonObject } from "#lib/kube/json.ts";
import { parseLabelSelector } from "#lib/kube/labels.ts";
import { MergeError, strategicMerge } from "#lib/kube/strategic-merge.ts";
import { CliError, fileProblem } from "../errors.ts";
import { setImages } from "./images.ts";
import { jsonPatch } from "./json-patch.ts";
import {
  parseKustomization,
  type Kustomization,
  type Patch,
  type Target,
} from "./kustomization.ts";
import { setLabels } from "./labels.ts";
import { groupOfObject, idOf, isClusterScoped, metadataOf, textAt } from "./object-id.ts";

const FILE_NAMES = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
const MAX_DEPTH = 16;

/** @throws {CliError} BAD_INPUT naming the file and the field */
export async function renderKustomization(dir: string): Promise<JsonObject[]> {
  return await build(resolve(dir), [], 0);
}

/** All documents of one file, lists flattened. @throws {CliError} BAD_INPUT */
export function readDocuments(text: string, file: string): JsonObject[] {
  const objects: JsonObject[] = [];
  for (const document of parseAllDocuments(text, { merge: true })) {
    if ("errors" in document && document.errors[0] !== undefined)
      throw new CliError("BAD_INPUT", `${file}: ${document.errors[0].message.split("\n")[0]}`);
    const json = (document.toJS({ maxAliasCount: 100 }) ?? null) as Json;
    if (json === null) continue;
    if (!isJsonObject(json)) throw new CliError("BAD_INPUT", `${file}: expected objects`);
    const items = json["kind"] === "List" ? json["items"] : [json];
    if (!Array.isArray(items) || !items.every(isJsonObject))
      throw new CliError("BAD_INPUT", `${file}: items: expected objects`);
    for (const item of items) {
      if (textAt(item, "kind") === "" || metadataOf(item)["name"] === undefined)
        throw new CliError("BAD_INPUT", `${file}: an object without kind or name`);
      objects.push(item);
    }
  }
  return objects;
}

/** @param base  what a component changes; empty for a kustomization of its own */
async function build(
  dir: string,
  base: readonly JsonObject[],
  depth: number,
): Promise<JsonObject[]> {
  if (depth > MAX_DEPTH) throw new CliError("BAD_INPUT", `${dir}: kustomizations refer in circles`);
  const { kustomization, file } = await readKustomization(dir);
  let objects: JsonObject[] = [...base];
  for (const name of kustomization.resources)
    for (const object of await resource(join(dir, name), depth)) {
      if (objects.some((o) => idOf(o) === idOf(object)))
        throw new CliError("BAD_INPUT", `${file}: ${idOf(object)} is there twice`);
      objects.push(object);
    }
  for (const name of kustomization.components)
    objects = await build(join(dir, name), objects, depth + 1);
  for (const patch of kustomization.patches) objects = await patched(objects, patch, dir, file);
  return transformed(objects, kustomization);
}

function transformed(objects: readonly JsonObject[], k: Kustomization): JsonObject[] {
  return objects.map((o) => {
    const { namespace } = k;
    const placed =
      namespace === null || isClusterScoped(o)
        ? o
        : { ...o, metadata: { ...metadataOf(o), namespace } };
    const labelled = k.labels.reduce(setLabels, placed);
    return k.images.length === 0 ? labelled : setImages(labelled, k.images);
  });
}

async function resource(path: string, depth: number): Promise<JsonObject[]> {
  try {
    if ((await stat(path)).isDirectory()) return await build(path, [], depth + 1);
    return readDocuments(await readFile(path, "utf8"), path);
  } catch (error) {
    if (error instanceof CliError) throw error;
    throw new CliError("BAD_INPUT", `Cannot read ${path}: ${fileProblem(error)}`, [], error);
  }
}

async function readKustomization(
  dir: string,
): Promise<{ readonly kustomization: Kustomization; readonly file: string }> {
  for (const name of FILE_NAMES) {
    const file = join(dir, name);
    let text: string;
    try {
      text = await readFile(file, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") continue;
      throw new CliError("BAD_INPUT", `Cannot read ${file}: ${fileProblem(error)}`, [], error);
    }
    const [document] = parseAllDocuments(text);
    const json = (document?.toJS() ?? {}) as Json;
    return { kustomization: parseKustomization(json, file), file };
  }
  throw new CliError("BAD_INPUT", `${dir} holds no ${FILE_NAMES[0]}`);
}

async function patched(
  objects: readonly JsonObject[],
  patch: Patch,
  dir: string,
  file: string,
): Promise<JsonObject[]> {
  const where = patch.path === null ? `${file}: a patch` : join(dir, patch.path);
  const text = patch.inline ?? (await readPatch(where));
  let result = [...objects];
  for (const document of parseAllDocuments(text)) {
    const json = (document.toJS() ?? null) as Json;
    if (json === null) continue;
    const matches = matcher(patch.target, json, where);
    const hit = result.filter(matches);
    if (hit.length === 0 && patch.target === null)
      throw new CliError("BAD_INPUT", `${where} changes nothing: no such object`);
    result = result.flatMap((o): JsonObject[] => {
      if (!matches(o)) return [o];
      if (Array.isArray(json)) return [jsonPatch(o, json, where)];
      if (!isJsonObject(json)) throw new CliError("BAD_INPUT", `${where}: expected a patch`);
      if (json["$patch"] === "delete") return [];
      return [mergedKeepingIdentity(o, json, where)];
    });
  }
  return result;
}

/** A patch for several objects carries a name that is not theirs. */
function mergedKeepingIdentity(o: JsonObject, patch: JsonObject, where: string): JsonObject {
  const merged = merge(o, patch, where);
  const { name, namespace } = metadataOf(o);
  return {
    ...merged,
    apiVersion: o["apiVersion"] ?? null,
    kind: o["kind"] ?? null,
    metadata: {
      ...metadataOf(merged),
      name: name ?? null,
      ...(namespace === undefined ? {} : { namespace }),
    },
  };
}

function merge(o: JsonObject, patch: JsonObject, where: string): JsonObject {
  try {
    return strategicMerge(o, patch, "kustomize");
  } catch (error) {
    if (!(error instanceof MergeError)) throw error;
    throw new CliError("BAD_INPUT", `${where}: ${error.message}`, [], error);
  }
}

async function readPatch(file: string): Promise<string> {
  try {
    return await readFile(file, "utf8");
  } catch (error) {
    throw new CliError("BAD_INPUT", `Cannot read ${file}: ${fileProblem(error)}`, [], error);
  }
}

function matcher(target: Target | null, json: Json, where: string): (o: JsonObject) => boolean {
  if (target !== null) {
    const labels =
      target.labelSelector === undefined ? null : parseLabelSelector(target.labelSelector);
    return (o) =>
      fits(target.group, groupOfObject(o)) &&
      fits(target.version, textAt(o, "apiVersion").split("/").at(-1) ?? "") &&
      fits(target.kind, textAt(o, "kind")) &&
      fits(target.name, textAt(metadataOf(o), "name")) &&
      fits(target.namespace, textAt(metadataOf(o), "namespace") || "default") &&
      (labels === null || labels(metadataOf(o)["labels"] as Record<string, string> | undefined));
  }
  if (!isJsonObject(json)) throw new CliError("BAD_INPUT", `${where} needs a target`);
  const id = idOf(json);
  const name = textAt(metadataOf(json), "name");
  const hasNamespace = metadataOf(json)["namespace"] !== undefined;
  return (o) =>
    idOf(o) === id ||
    (!hasNamespace &&
      groupOfObject(o) === groupOfObject(json) &&
      o["kind"] === json["kind"] &&
      metadataOf(o)["name"] === name);
}

function fits(pattern: string | undefined, value: string): boolean {
  return pattern === undefined || pattern === "" || new RegExp(`^(?:${pattern})$`).test(value);
}

// A kustomization file as a value: the fields this renderer carries out, and an error for every other.
import { isJsonObject, type Json, type JsonObject } from "#lib/kube/json.ts";
import { CliError } from "../errors.ts";

export interface Image {
  readonly name: string;
  readonly newName?: string | undefined;
  readonly newTag?: string | undefined;
  readonly digest?: string | undefined;
}

/** Which objects a patch is for; texts are anchored regular expressions, as in kustomize. */
export interface Target {
  readonly group?: string | undefined;
  readonly version?: string | undefined;
  readonly kind?: string | undefined;
  readonly name?: string | undefined;
  readonly namespace?: string | undefined;
  readonly labelSelector?: string | undefined;
}

export interface Patch {
  /** File beside the kustomization, or the patch itself. */
  readonly path: string | null;
  readonly inline: string | null;
  readonly target: Target | null;
}

export interface LabelRule {
  readonly pairs: Readonly<Record<string, string>>;
  readonly includeSelectors: boolean;
  readonly includeTemplates: boolean;
}

export interface Kustomization {
  readonly resources: readonly string[];
  readonly components: readonly string[];
  readonly patches: readonly Patch[];
  readonly images: readonly Image[];
  readonly labels: readonly LabelRule[];
  readonly namespace: string | null;
}

const KNOWN = new Set([
  "apiVersion",
  "kind",
  "metadata",
  "resources",
  "components",
  "patches",
  "images",
  "labels",
  "namespace",
]);

/** @param file  names it in errors. @throws {CliError} BAD_INPUT naming the field */
export function parseKustomization(json: Json, file: string): Kustomization {
  if (!isJsonObject(json)) throw wrong(file, "", "a mapping");
  for (const key of Object.keys(json))
    if (!KNOWN.has(key))
      throw new CliError("BAD_INPUT", `${file}: ${key} is not carried out by ambit`, [
        `it knows ${[...KNOWN].slice(3).join(", ")}`,
        "render it with kubectl kustomize, and apply the result with ambit apply -f -",
      ]);
  const namespace = json["namespace"];
  return {
    resources: texts(json, "resources", file),
    components: texts(json, "components", file),
    patches: entries(json, "patches", file).map((p, i) => parsePatch(p, `${file}: patches[${i}]`)),
    images: entries(json, "images", file).map((p, i) => parseImage(p, `${file}: images[${i}]`)),
    labels: entries(json, "labels", file).map((p, i) => parseLabels(p, `${file}: labels[${i}]`)),
    namespace: typeof namespace === "string" ? namespace : null,
  };
}

function parsePatch(p: JsonObject, at: string): Patch {
  const path = text(p, "path", at) ?? null;
  const inline = text(p, "patch", at) ?? null;
  if ((path === null) === (inline === null)) throw wrong(at, "", "either path or patch");
  const target = p["target"];
  if (target === undefined) return { path, inline, target: null };
  if (!isJsonObject(target)) throw wrong(at, "target", "a mapping");
  return {
    path,
    inline,
    target: {
      group: text(target, "group", at),
      version: text(target, "version", at),
      kind: text(target, "kind", at),
      name: text(target, "name", at),
      namespace: text(target, "namespace", at),
      labelSelector: text(target, "labelSelector", at),
    },
  };
}

function parseImage(p: JsonObject, at: string): Image {
  const name = text(p, "name", at);
  if (name === undefined) throw wrong(at, "name", "text");
  return {
    name,
    newName: text(p, "newName", at),
    newTag: text(p, "newTag", at),
    digest: text(p, "digest", at),
  };
}

function parseLabels(p: JsonObject, at: string): LabelRule {
  const pairs = p["pairs"];
  if (!isJsonObject(pairs)) throw wrong(at, "pairs", "a mapping");
  return {
    pairs: Object.fromEntries(Object.keys(pairs).map((k) => [k, text(pairs, k, at) ?? ""])),
    includeSelectors: p["includeSelectors"] === true,
    includeTemplates: p["includeTemplates"] === true,
  };
}

function texts(json: JsonObject, key: string, at: string): string[] {
  const value = json[key] ?? [];
  if (!Array.isArray(value) || !value.every((v) => typeof v === "string"))
    throw wrong(at, key, "a list of texts");
  return value;
}

function entries(json: JsonObject, key: string, at: string): JsonObject[] {
  const value = json[key] ?? [];
  if (!Array.isArray(value) || !value.every(isJsonObject))
    throw wrong(at, key, "a list of mappings");
  return value;
}

function text(json: JsonObject, key: string, at: string): string | undefined {
  const value = json[key];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "string" && typeof value !== "number") throw wrong(at, key, "text");
  return String(value);
}

function wrong(at: string, key: string, expected: string): CliError {
  return new CliError("BAD_INPUT", `${at}${key === "" ? "" : `.${key}`}: expected ${expected}`);
}

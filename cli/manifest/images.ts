// Image names: split, changed as kustomize's `images` say, in every container of an object.
import { isJsonObject, type Json, type JsonObject } from "#lib/kube/json.ts";
import type { Image } from "./kustomization.ts";

export interface ImageName {
  readonly name: string;
  /** `:tag` or `@digest`, or empty. */
  readonly suffix: string;
}

/** `registry:5000/team/ambit:1.2@sha256:…` → name and the rest. */
export function splitImage(image: string): ImageName {
  const at = image.indexOf("@");
  const base = at < 0 ? image : image.slice(0, at);
  const digest = at < 0 ? "" : image.slice(at);
  const slash = base.lastIndexOf("/");
  const colon = base.indexOf(":", slash + 1);
  return colon < 0
    ? { name: base, suffix: digest }
    : { name: base.slice(0, colon), suffix: `${base.slice(colon)}${digest}` };
}

/** A copy with the image of every container, wherever it stands, passed through `change`. */
export function mapImages(value: JsonObject, change: (image: string) => string): JsonObject {
  return mapped(value, change) as JsonObject;
}

export function setImages(o: JsonObject, images: readonly Image[]): JsonObject {
  return mapImages(o, (image) => images.reduce(changed, image));
}

function changed(image: string, rule: Image): string {
  const { name, suffix } = splitImage(image);
  if (name !== rule.name) return image;
  const newName = rule.newName ?? name;
  if (rule.digest !== undefined) return `${newName}@${rule.digest}`;
  if (rule.newTag !== undefined) return `${newName}:${rule.newTag}`;
  return `${newName}${suffix}`;
}

function mapped(value: Json, change: (image: string) => string): Json {
  if (Array.isArray(value)) return value.map((v) => mapped(v, change));
  if (!isJsonObject(value)) return value;
  const result: JsonObject = {};
  for (const [key, inner] of Object.entries(value))
    result[key] =
      (key === "containers" || key === "initContainers") && Array.isArray(inner)
        ? inner.map((c) => container(c, change))
        : mapped(inner, change);
  return result;
}

function container(c: Json, change: (image: string) => string): Json {
  if (!isJsonObject(c)) return c;
  const { image } = c;
  return typeof image === "string" ? { ...c, image: change(image) } : c;
}

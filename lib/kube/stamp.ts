// What an API server adds to an object on its way into storage, and the checks it makes.
import { randomUUID } from "node:crypto";
import type { Resource } from "./cluster.ts";
import { KubeError } from "./errors.ts";
import { isJsonObject, type JsonObject, sameJson } from "./json.ts";
import { groupOf } from "./objects.ts";
import { parseObject } from "./parse-object.ts";
import { FieldError } from "./schema.ts";

export interface ObjectName {
  readonly resource: Resource;
  readonly namespace: string | null;
  readonly name: string;
}

/** Set by the store alone; whatever a writer says of them is ignored. */
const STORE_OWNED = ["uid", "creationTimestamp", "generation", "resourceVersion"] as const;

/**
 * @param current what is stored; `null` for a new object
 * @param version becomes the `resourceVersion`; must rise
 * @returns `current` itself when `next` says nothing new
 * @throws {KubeError} `INVALID`
 */
export function stamped(
  of: ObjectName,
  current: JsonObject | null,
  next: JsonObject,
  version: number,
): JsonObject {
  const { resource, namespace, name } = of;
  const old = isJsonObject(current?.metadata) ? current.metadata : null;
  const metadata: JsonObject = {
    ...(isJsonObject(next.metadata) ? next.metadata : {}),
    name,
    ...(namespace === null ? {} : { namespace }),
  };
  if (old !== null) for (const field of STORE_OWNED) restore(metadata, old, field);
  const object: JsonObject = {
    apiVersion: next.apiVersion ?? apiVersionOf(resource),
    kind: resource.kind,
    ...next,
    metadata,
  };
  if (current !== null && sameJson(current, object)) return current;
  metadata.uid ??= randomUUID();
  metadata.creationTimestamp ??= new Date().toISOString().replace(/\.\d+Z$/, "Z");
  const generation = typeof metadata.generation === "number" ? metadata.generation : 0;
  if (current === null || generation === 0 || !sameJson(desired(current), desired(object)))
    metadata.generation = generation + 1;
  metadata.resourceVersion = String(version);
  check(of, object);
  return object;
}

/** The object without what only the store sets. */
export function unstamped(object: JsonObject): JsonObject {
  const metadata: JsonObject = isJsonObject(object.metadata) ? { ...object.metadata } : {};
  for (const field of STORE_OWNED) delete metadata[field];
  return { ...object, metadata };
}

export function shown(namespace: string | null, name: string): string {
  return namespace === null ? name : `${namespace}/${name}`;
}

function check({ resource, namespace, name }: ObjectName, object: JsonObject): void {
  try {
    const { group, kind } = resource;
    const { apiVersion } = object;
    if (typeof apiVersion === "string" && groupOf(apiVersion) !== group)
      throw new FieldError("apiVersion", `expected group "${group}", got "${apiVersion}"`);
    if (object.kind !== kind)
      throw new FieldError("kind", `expected ${kind}, got ${JSON.stringify(object.kind)}`);
    parseObject(object);
  } catch (error) {
    if (!(error instanceof FieldError)) throw error;
    throw new KubeError(
      "INVALID",
      `Cannot store ${resource.kind} ${shown(namespace, name)}: ${error.message}`,
      { field: error.path, cause: error },
    );
  }
}

/** What `generation` counts the changes of: all but metadata and status. */
function desired(object: JsonObject): JsonObject {
  const { metadata: _metadata, status: _status, ...rest } = object;
  return rest;
}

function restore(metadata: JsonObject, old: JsonObject, field: string): void {
  const value = old[field];
  if (value === undefined) delete metadata[field];
  else metadata[field] = value;
}

function apiVersionOf(resource: Resource): string {
  return resource.group === "" ? resource.version : `${resource.group}/${resource.version}`;
}

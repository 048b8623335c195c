// The status of an object kept beside its manifest, as values: what a writer's status adds to the one
// in the manifest, how both make the object that readers see, and the file that holds it.
import type { KubeObject } from "./cluster.ts";
import { KubeError } from "./errors.ts";
import { isJsonObject, type Json, type JsonObject, sameJson } from "./json.ts";
import { identityKey } from "./manifest.ts";
import { parseObject } from "./parse-object.ts";
import { FieldError } from "./schema.ts";

/** Below the manifest directory; readers that look for manifests pass it by. */
export const STATUS_DIR = ".status";

export interface StatusOverlay {
  /** Of the object it was written for, if that has one: another object of the name starts afresh. */
  readonly uid: string | null;
  /** Rises with each write, as the object's own does. */
  readonly resourceVersion: string;
  /** Top-level fields of `status` that differ from the manifest's; `null`: taken away. */
  readonly fields: Readonly<Record<string, Json>>;
}

/** True while `overlay` is meant for this object. */
export function concerns(overlay: StatusOverlay, object: KubeObject): boolean {
  const { uid } = object.metadata;
  return overlay.uid === null || uid === undefined || uid === overlay.uid;
}

/** The object with the status that belongs to it. Neither argument is changed. */
export function overlaid(document: KubeObject, overlay: StatusOverlay | null): KubeObject {
  if (overlay === null || !concerns(overlay, document)) return document;
  const { status: own, ...rest } = document as KubeObject & { readonly status?: Json };
  const status: JsonObject = { ...(isJsonObject(own) ? own : {}), ...overlay.fields };
  for (const [name, value] of Object.entries(status)) if (value === null) delete status[name];
  const metadata = { ...rest.metadata, resourceVersion: later(document, overlay) };
  return Object.keys(status).length === 0 && own === undefined
    ? { ...rest, metadata }
    : Object.assign({ ...rest, metadata }, { status });
}

/** What to keep beside a manifest that says `own`, so that readers see `wanted`. */
export function overlayFields(own: Json | undefined, wanted: Json | undefined): JsonObject {
  const from = isJsonObject(own) ? own : {};
  const to = isJsonObject(wanted) ? wanted : {};
  const fields: JsonObject = {};
  for (const [name, value] of Object.entries(to))
    if (!sameJson(from[name], value)) fields[name] = value;
  for (const name of Object.keys(from)) if (to[name] === undefined) fields[name] = null;
  return fields;
}

export function printOverlay(object: KubeObject, overlay: StatusOverlay): string {
  const { name, namespace } = object.metadata;
  const { uid, resourceVersion, fields } = overlay;
  const metadata = {
    name,
    ...(namespace === undefined ? {} : { namespace }),
    ...(uid === null ? {} : { uid }),
    resourceVersion,
  };
  const { apiVersion, kind } = object;
  return `${JSON.stringify({ apiVersion, kind, metadata, status: fields }, null, 2)}\n`;
}

/** @throws {KubeError} `MALFORMED` or `INVALID` */
export function parseOverlay(
  text: string,
  file: string,
): { readonly key: string; readonly overlay: StatusOverlay } {
  let value: Json;
  try {
    value = JSON.parse(text) as Json;
  } catch (error) {
    throw new KubeError("MALFORMED", `${file}: ${String(error)}`, { file, cause: error });
  }
  try {
    const object = parseObject(structuredClone(value)); // drops the nulls, so on a copy
    const fields = isJsonObject(value) ? value.status : undefined;
    if (!isJsonObject(fields)) throw new FieldError("status", "expected a mapping");
    const { uid = null, resourceVersion = "0" } = object.metadata;
    return { key: identityKey(object), overlay: { uid, resourceVersion, fields } };
  } catch (error) {
    if (!(error instanceof FieldError)) throw error;
    const field = error.path;
    throw new KubeError("INVALID", `${file}: ${error.message}`, { file, field, cause: error });
  }
}

/** The manifest's version counts when it was written later: a writer changed more than the status. */
function later(document: KubeObject, overlay: StatusOverlay): string {
  const own = document.metadata.resourceVersion ?? "0";
  return Number(own) > Number(overlay.resourceVersion) ? own : overlay.resourceVersion;
}

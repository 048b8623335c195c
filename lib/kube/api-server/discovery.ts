// What the API server serves: any kind by its apiVersion and name, and the versions of a known one.
import type { Resource } from "../cluster.ts";
import { KubeError } from "../errors.ts";
import { isJsonObject, type JsonObject } from "../json.ts";
import { groupOf } from "../objects.ts";
import { about, type ApiServer } from "./api-server.ts";

/**
 * A kind's resource; `null` when it is not served. For objects nobody typed: manifests, the CLI.
 * @throws {KubeError} when the server cannot be asked
 */
export async function findResource(
  apiServer: ApiServer,
  apiVersion: string,
  kind: string,
  signal?: AbortSignal,
): Promise<Resource | null> {
  const group = groupOf(apiVersion);
  const version = group === "" ? apiVersion : apiVersion.slice(group.length + 1);
  const served = await resourcesOf(apiServer, group, version, signal);
  const found = served.find((r) => r.kind === kind && !r.plural.includes("/"));
  return found === undefined ? null : { group, version, ...found };
}

/** Every resource in its group's preferred version, without subresources. */
export async function listResources(
  apiServer: ApiServer,
  signal?: AbortSignal,
): Promise<readonly Resource[]> {
  const groups = await read(apiServer, "/apis", signal);
  const preferred = objects(groups?.groups).flatMap((group) => {
    const { name, preferredVersion } = group;
    const version = isJsonObject(preferredVersion) ? preferredVersion.version : undefined;
    return typeof name === "string" && typeof version === "string"
      ? [{ group: name, version }]
      : [];
  });
  const all = await Promise.all(
    [{ group: "", version: "v1" }, ...preferred].map(async ({ group, version }) =>
      (await resourcesOf(apiServer, group, version, signal))
        .filter((r) => !r.plural.includes("/"))
        .map((r) => ({ group, version, ...r })),
    ),
  );
  return all.flat();
}

/** Another version that serves the resource, the server's preferred one first; `null` when none does. */
export async function servedVersion(
  apiServer: ApiServer,
  resource: Resource,
  signal?: AbortSignal,
): Promise<string | null> {
  const { group, plural, kind } = resource;
  if (group === "") return null;
  const answer = await read(apiServer, `/apis/${group}`, signal);
  for (const { version } of objects(answer?.versions)) {
    if (typeof version !== "string") continue;
    const served = await resourcesOf(apiServer, group, version, signal);
    if (served.some((r) => r.plural === plural && r.kind === kind)) return version;
  }
  return null;
}

async function resourcesOf(
  apiServer: ApiServer,
  group: string,
  version: string,
  signal?: AbortSignal,
): Promise<{ kind: string; plural: string; namespaced: boolean }[]> {
  const path = group === "" ? `/api/${version}` : `/apis/${group}/${version}`;
  const answer = await read(apiServer, path, signal);
  return objects(answer?.resources).flatMap(({ kind, name, namespaced }) =>
    typeof kind === "string" && typeof name === "string"
      ? [{ kind, plural: name, namespaced: namespaced === true }]
      : [],
  );
}

async function read(
  apiServer: ApiServer,
  path: string,
  signal?: AbortSignal,
): Promise<JsonObject | null> {
  try {
    const subject = about("get", path);
    const stop = signal === undefined ? {} : { signal };
    const answer = await apiServer.request({ method: "GET", path, subject, ...stop });
    return isJsonObject(answer) ? answer : null;
  } catch (error) {
    if (error instanceof KubeError && error.status === 404) return null;
    throw error;
  }
}

function objects(value: unknown): JsonObject[] {
  return Array.isArray(value) ? value.filter(isJsonObject) : [];
}

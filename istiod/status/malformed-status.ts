// Says in the status of a malformed object what is wrong with it. Such an object cannot be read as one of
// its kind, so this reads and writes JSON.
import type { Clock } from "#lib/base/clock.ts";
import type { ApiServer, ApiRequest } from "#lib/kube/api-server/api-server.ts";
import { objectPath, subjectOf } from "#lib/kube/api-server/paths.ts";
import { KubeError } from "#lib/kube/errors.ts";
import { isJsonObject, type Json, type JsonObject } from "#lib/kube/json.ts";
import type { Condition } from "#lib/kube/objects.ts";
import type { MalformedObject } from "../watch/malformed-objects.ts";
import { mergeConditions } from "./merge-conditions.ts";

export const INVALID = "Invalid";
export const MALFORMED_WRITER = "istio-ambient-malformed";
const STATUSES: readonly string[] = ["True", "False", "Unknown"];

/** Where an author looks for what became of the object. */
export function acceptedType(kind: string): string {
  return kind === "AuthorizationPolicy" ? "ZtunnelAccepted" : "Accepted";
}

/**
 * @param owned   condition types of istiod on this kind: they go, since they speak of a state that is past
 * @returns       `missing` when the object is gone
 * @throws {KubeError}
 */
export async function writeMalformed(
  apiServer: ApiServer,
  clock: Clock,
  malformed: MalformedObject,
  owned: ReadonlySet<string>,
): Promise<"written" | "unchanged" | "missing"> {
  const { resource, namespace, name, message } = malformed;
  const request = (verb: "get" | "patch", subresource?: string): ApiRequest => {
    const place = { namespace, name, ...(subresource === undefined ? {} : { subresource }) };
    return {
      method: verb === "get" ? "GET" : "PATCH",
      path: objectPath(resource, resource.version, place),
      subject: subjectOf(verb, resource, place),
    };
  };
  try {
    const live = await apiServer.request(request("get"));
    const metadata = record(record(live)?.metadata);
    const { generation, resourceVersion } = metadata ?? {};
    const wanted: Condition = {
      type: acceptedType(resource.kind),
      status: "False",
      reason: INVALID,
      message,
      ...(typeof generation === "number" ? { observedGeneration: generation } : {}),
    };
    const now = new Date(clock.now()).toISOString().replace(/\.\d+Z$/, "Z");
    const found = conditionsOf(record(record(live)?.status)?.conditions);
    const conditions = mergeConditions(found, [wanted], owned, now);
    if (conditions === null) return "unchanged";
    await apiServer.request({
      ...request("patch", "status"),
      query: { fieldManager: MALFORMED_WRITER },
      contentType: "application/merge-patch+json",
      body: { metadata: { resourceVersion }, status: { conditions } },
    });
    return "written";
  } catch (error) {
    if (error instanceof KubeError && error.code === "NOT_FOUND") return "missing";
    throw error;
  }
}

/** Those that are conditions at all. */
function conditionsOf(value: Json | undefined): Condition[] {
  const entries: readonly unknown[] = Array.isArray(value) ? value : [];
  return entries.filter(isCondition);
}

function isCondition(value: unknown): value is Condition {
  const { type, status } = record(value) ?? {};
  return typeof type === "string" && typeof status === "string" && STATUSES.includes(status);
}

function record(value: unknown): JsonObject | undefined {
  return isJsonObject(value) ? value : undefined;
}

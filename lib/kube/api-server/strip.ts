// What a watch keeps of an object: per kind the fields the mesh reads, everything else is let go on
// arrival, so that ten thousand Pods stay small. Reads (`get`, `list`) give whole objects.
import { isJsonObject, type Json, type JsonObject } from "../json.ts";
import type { Resource } from "../cluster.ts";
import { kindKey, RESOURCES } from "../objects.ts";
import { internText, shareObject } from "./intern.ts";

/** How much a watch keeps of its objects. */
export type Keeps = "what-the-mesh-reads" | "everything";

/**
 * How much of a value stays: `keep` all of it; `intern` a text that many objects hold; `share` a small
 * object or list that many objects hold alike; a mapping: of an object only these fields; a list of one: of
 * every entry that much.
 */
type Shape = "keep" | "intern" | "share" | { readonly [field: string]: Shape } | readonly [Shape];

const METADATA: Shape = {
  name: "keep",
  namespace: "intern",
  uid: "keep",
  resourceVersion: "keep",
  generation: "keep",
  generateName: "intern",
  creationTimestamp: "keep",
  deletionTimestamp: "keep",
  labels: "share",
  annotations: "share",
  ownerReferences: "share",
};
const CONDITIONS: Shape = [{ type: "intern", status: "intern" }];
const PORTS: Shape = [{ name: "keep", containerPort: "keep", protocol: "keep" }];

const SHAPES: Readonly<Record<string, Readonly<Record<string, Shape>>>> = {
  [kindKey(RESOURCES.pods)]: {
    spec: {
      serviceAccountName: "intern",
      nodeName: "intern",
      hostNetwork: "keep",
      hostname: "keep",
      subdomain: "intern",
      containers: [{ name: "intern", ports: PORTS }],
      initContainers: [{ name: "intern", restartPolicy: "intern", ports: PORTS }],
    },
    status: {
      phase: "intern",
      podIP: "keep",
      podIPs: [{ ip: "keep" }],
      hostIP: "intern",
      reason: "intern",
      conditions: CONDITIONS,
    },
  },
  [kindKey(RESOURCES.nodes)]: {
    spec: { podCIDR: "keep", podCIDRs: "keep", taints: "keep" },
    status: { addresses: "keep", conditions: CONDITIONS },
  },
  [kindKey(RESOURCES.namespaces)]: { status: { phase: "intern" } },
  [kindKey(RESOURCES.endpointSlices)]: {
    addressType: "intern",
    ports: "share",
    endpoints: [
      {
        addresses: "keep",
        hostname: "keep",
        nodeName: "intern",
        zone: "intern",
        conditions: "share",
        targetRef: { kind: "intern", namespace: "intern", name: "keep", uid: "keep" },
      },
    ],
  },
  [kindKey(RESOURCES.configMaps)]: { data: "keep" },
  [kindKey(RESOURCES.serviceAccounts)]: {},
  [kindKey(RESOURCES.customResourceDefinitions)]: {},
};

/** kubectl's copy of the whole object, and leader locks' heartbeats have no readers here. */
const DROPPED_ANNOTATIONS: ReadonlySet<string> = new Set([
  "kubectl.kubernetes.io/last-applied-configuration",
]);

/** @param whole borrowed: what is kept of it is taken */
export function strip(resource: Resource, whole: JsonObject): JsonObject {
  const result = withKind(resource, whole);
  const metadata = pick(METADATA, whole.metadata);
  if (metadata !== undefined) result.metadata = dropAnnotations(metadata, whole.metadata);
  if (resource.metadataOnly === true) return result;
  const shape = SHAPES[kindKey(resource)];
  if (shape === undefined) {
    for (const field in whole) if (!(field in result)) result[field] = whole[field] ?? null;
    return result;
  }
  for (const field in shape) {
    const kept = pick(shape[field] ?? "keep", whole[field]);
    if (kept !== undefined) result[field] = kept;
  }
  return result;
}

/** The whole object but for its `managedFields`, which no one here reads and which are half its size. */
export function withoutManagedFields(resource: Resource, whole: JsonObject): JsonObject {
  const result: JsonObject = { ...withKind(resource, whole), ...whole };
  if (isJsonObject(whole.metadata)) {
    const { managedFields: _, ...metadata } = whole.metadata;
    result.metadata = metadata;
  }
  return result;
}

/** Items of a list come without `apiVersion` and `kind`. */
function withKind({ group, version, kind }: Resource, whole: JsonObject): JsonObject {
  const apiVersion = group === "" ? version : internText(`${group}/${version}`);
  const isPartial = whole.kind === undefined || whole.kind === "PartialObjectMetadata";
  return {
    apiVersion: isPartial || whole.apiVersion === undefined ? apiVersion : whole.apiVersion,
    kind: isPartial ? kind : (whole.kind ?? kind),
  };
}

function pick(shape: Shape, value: Json | undefined): Json | undefined {
  if (value === undefined || value === null) return undefined;
  if (shape === "keep") return value;
  if (shape === "intern") return typeof value === "string" ? internText(value) : value;
  if (shape === "share") return shareObject(value);
  if (isEntryShape(shape)) {
    // A wrong type is left for the check that names it.
    return Array.isArray(value) ? value.map((entry) => pick(shape[0], entry) ?? null) : value;
  }
  if (!isJsonObject(value)) return value;
  const result: JsonObject = {};
  for (const field in shape) {
    const kept = pick(shape[field] ?? "keep", value[field]);
    if (kept !== undefined) result[field] = kept;
  }
  return result;
}

function isEntryShape(
  shape: readonly [Shape] | { readonly [field: string]: Shape },
): shape is readonly [Shape] {
  return Array.isArray(shape);
}

function dropAnnotations(kept: Json, whole: Json | undefined): Json {
  if (!isJsonObject(kept) || !isJsonObject(whole) || !isJsonObject(whole.annotations)) return kept;
  const entries = Object.entries(whole.annotations);
  if (!entries.some(([key]) => DROPPED_ANNOTATIONS.has(key))) return kept;
  const annotations = Object.fromEntries(entries.filter(([key]) => !DROPPED_ANNOTATIONS.has(key)));
  return { ...kept, annotations: shareObject(annotations) };
}

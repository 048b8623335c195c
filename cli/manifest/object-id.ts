// How objects of manifests are told apart, and what of their metadata the renderer reads.
import { groupOf } from "#lib/kube/objects.ts";
import { isJsonObject, type JsonObject } from "#lib/kube/json.ts";

export function metadataOf(o: JsonObject): JsonObject {
  const { metadata } = o;
  return isJsonObject(metadata) ? metadata : {};
}

export function textAt(o: JsonObject, key: string): string {
  const value = o[key];
  return typeof value === "string" ? value : "";
}

export function groupOfObject(o: JsonObject): string {
  return groupOf(textAt(o, "apiVersion"));
}

/** `kind.group/name` with the namespace in front: unique within a cluster. */
export function idOf(o: JsonObject): string {
  const group = groupOfObject(o);
  const { namespace } = metadataOf(o);
  const kind = `${textAt(o, "kind").toLowerCase()}${group === "" ? "" : `.${group}`}`;
  const place = typeof namespace === "string" ? `${namespace}/` : "";
  return `${kind}/${place}${textAt(metadataOf(o), "name")}`;
}

const CLUSTER_SCOPED = new Set([
  "APIService",
  "ClusterRole",
  "ClusterRoleBinding",
  "CustomResourceDefinition",
  "GatewayClass",
  "MutatingWebhookConfiguration",
  "Namespace",
  "Node",
  "PersistentVolume",
  "PriorityClass",
  "RuntimeClass",
  "StorageClass",
  "ValidatingAdmissionPolicy",
  "ValidatingAdmissionPolicyBinding",
  "ValidatingWebhookConfiguration",
]);

/** Of the kinds a manifest of ours may hold. */
export function isClusterScoped(o: JsonObject): boolean {
  return CLUSTER_SCOPED.has(textAt(o, "kind"));
}

// The order an installation goes in: which object belongs to which stage, and what comes first within one.
import type { JsonObject } from "#lib/kube/json.ts";
import { metadataOf, textAt } from "../manifest/object-id.ts";

/** Applied in this order; removed in the opposite one. */
export const STAGES = ["CRDs", "istiod", "cni", "ztunnel"] as const;
export type Stage = (typeof STAGES)[number];

/** What other objects need comes first. Kinds that are not listed come last. */
const KIND_ORDER = [
  "CustomResourceDefinition",
  "Namespace",
  "PriorityClass",
  "ResourceQuota",
  "ServiceAccount",
  "ClusterRole",
  "ClusterRoleBinding",
  "Role",
  "RoleBinding",
  "Secret",
  "ConfigMap",
  "Service",
  "NetworkPolicy",
  "Deployment",
  "DaemonSet",
];

export function stageOf(o: JsonObject): Stage {
  if (o["kind"] === "CustomResourceDefinition") return "CRDs";
  const name = textAt(metadataOf(o), "name");
  if (/^istio-cni\b/.test(name)) return "cni";
  if (/^ztunnel\b/.test(name)) return "ztunnel";
  return "istiod";
}

export interface StagePlan {
  readonly stage: Stage;
  readonly objects: readonly JsonObject[];
}

/** Every stage, empty ones too; objects in the order they are applied in. */
export function planStages(objects: readonly JsonObject[]): readonly StagePlan[] {
  return STAGES.map((stage) => ({
    stage,
    objects: objects.filter((o) => stageOf(o) === stage).toSorted((a, b) => rank(a) - rank(b)),
  }));
}

function rank(o: JsonObject): number {
  const at = KIND_ORDER.indexOf(textAt(o, "kind"));
  return at < 0 ? KIND_ORDER.length : at;
}

/** Kinds of tools that a cluster may do without: left out where they are not served. */
export function isOptional(o: JsonObject): boolean {
  return textAt(o, "apiVersion").startsWith("monitoring.coreos.com/");
}

// kustomize's `labels`: pairs set on every object and, when asked, on pod templates and selectors.
import { isJsonObject, type JsonObject } from "#lib/kube/json.ts";
import type { LabelRule } from "./kustomization.ts";
import { textAt } from "./object-id.ts";

const WITH_TEMPLATE = new Set(["Deployment", "DaemonSet", "StatefulSet", "ReplicaSet", "Job"]);

export function setLabels(o: JsonObject, rule: LabelRule): JsonObject {
  let result = within(o, ["metadata", "labels"], rule);
  const kind = textAt(o, "kind");
  if (WITH_TEMPLATE.has(kind) && (rule.includeTemplates || rule.includeSelectors))
    result = within(result, ["spec", "template", "metadata", "labels"], rule);
  if (!rule.includeSelectors) return result;
  if (WITH_TEMPLATE.has(kind)) result = within(result, ["spec", "selector", "matchLabels"], rule);
  if (kind === "Service") result = within(result, ["spec", "selector"], rule);
  return result;
}

function within(o: JsonObject, path: readonly string[], rule: LabelRule): JsonObject {
  const [key, ...rest] = path;
  if (key === undefined) return { ...o, ...rule.pairs };
  const inner = o[key];
  return { ...o, [key]: within(isJsonObject(inner) ? inner : {}, rest, rule) };
}

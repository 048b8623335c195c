// `enablement_selectors`: pairs of label selectors, one of which a pod and its namespace must both match.
import { compileLabelSelector, type LabelMatcher } from "#lib/kube/labels.ts";
import type { LabelSelector } from "#lib/kube/objects.ts";

export interface EnrolmentSelector {
  readonly matchesPod: LabelMatcher;
  readonly matchesNamespace: LabelMatcher;
}

/**
 * A selector that is absent or empty matches everything, an empty list nothing.
 * @throws {Error} saying which entry cannot be read
 */
export function compileSelectors(list: unknown): readonly EnrolmentSelector[] {
  if (!Array.isArray(list)) throw new Error("expected a list of selectors");
  return list.map((entry: unknown, index) => {
    if (typeof entry !== "object" || entry === null)
      throw new Error(`selector ${index} is not an object`);
    const unknown = Object.keys(entry).filter(
      (key) => key !== "podSelector" && key !== "namespaceSelector",
    );
    if (unknown.length > 0)
      throw new Error(`selector ${index} has unknown keys ${unknown.join(", ")}`);
    const { podSelector, namespaceSelector } = entry as Record<string, unknown>;
    return {
      matchesPod: compile(podSelector, `selector ${index}: podSelector`),
      matchesNamespace: compile(namespaceSelector, `selector ${index}: namespaceSelector`),
    };
  });
}

function compile(value: unknown, where: string): LabelMatcher {
  if (value === undefined || value === null) return () => true;
  if (typeof value !== "object") throw new Error(`${where} is not an object`);
  const { matchLabels, matchExpressions, ...rest } = value as Record<string, unknown>;
  if (Object.keys(rest).length > 0)
    throw new Error(`${where} has unknown keys ${Object.keys(rest).join(", ")}`);
  // Go writes an absent map or list as null
  const labels = matchLabels ?? {};
  const expressions = matchExpressions ?? [];
  if (!isTextMap(labels)) throw new Error(`${where}.matchLabels is not a map of texts`);
  if (!Array.isArray(expressions) || !expressions.every(isExpression))
    throw new Error(`${where}.matchExpressions is not a list of {key, operator, values}`);
  const selector: LabelSelector = {
    matchLabels: labels,
    matchExpressions: expressions.map(({ key, operator, values }) => ({
      key,
      operator,
      values: values ?? [],
    })),
  };
  return compileLabelSelector(selector);
}

type Expression = NonNullable<LabelSelector["matchExpressions"]>[number];
const OPERATORS = ["In", "NotIn", "Exists", "DoesNotExist"];

function isExpression(value: unknown): value is Expression {
  if (typeof value !== "object" || value === null) return false;
  const { key, operator, values } = value as Record<string, unknown>;
  const list = values ?? [];
  return (
    typeof key === "string" &&
    OPERATORS.includes(String(operator)) &&
    Array.isArray(list) &&
    list.every((v) => typeof v === "string")
  );
}

function isTextMap(value: unknown): value is Record<string, string> {
  return (
    typeof value === "object" &&
    value !== null &&
    !Array.isArray(value) &&
    Object.values(value).every((v) => typeof v === "string")
  );
}

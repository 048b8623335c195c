// Which pods belong to the mesh. Pure: labels in, a wish with its reason out.
import { parse as parseYaml } from "yaml";
import { compileLabelSelector, type LabelMatcher } from "#lib/kube/labels.ts";
import type { LabelSelector, Namespace, Pod } from "#lib/kube/objects.ts";

export interface EnrolmentSelector {
  readonly matchesPod: LabelMatcher;
  readonly matchesNamespace: LabelMatcher;
}

export interface EnrolmentRules {
  readonly selectors: readonly EnrolmentSelector[];
  readonly excludeNamespaces: ReadonlySet<string>;
}

export type Wish =
  | { readonly kind: "enrol" }
  | {
      readonly kind: "leave out";
      readonly why: "host network" | "sidecar" | "excluded namespace" | "not selected";
    }
  /** The pod has ended; its namespace goes by itself. */
  | { readonly kind: "ended" };

const SIDECAR_STATUS = "sidecar.istio.io/status";

/** @param namespace  `null` when the cluster knows none of that name: no label of it can match */
export function wishFor(pod: Pod, namespace: Namespace | null, rules: EnrolmentRules): Wish {
  const { phase } = pod.status ?? {};
  if (phase === "Succeeded" || phase === "Failed") return { kind: "ended" };
  if (pod.spec?.hostNetwork === true) return { kind: "leave out", why: "host network" };
  if (pod.metadata.annotations?.[SIDECAR_STATUS] !== undefined)
    return { kind: "leave out", why: "sidecar" };
  if (rules.excludeNamespaces.has(pod.metadata.namespace ?? "default"))
    return { kind: "leave out", why: "excluded namespace" };
  const isSelected = rules.selectors.some(
    (s) =>
      s.matchesPod(pod.metadata.labels ?? {}) &&
      s.matchesNamespace(namespace?.metadata.labels ?? {}),
  );
  return isSelected ? { kind: "enrol" } : { kind: "leave out", why: "not selected" };
}

/**
 * Reads `AMBIENT_ENABLEMENT_SELECTOR`: a YAML list of `{podSelector, namespaceSelector}`. A selector
 * that is absent or empty matches everything, an empty list nothing.
 * @throws {Error} saying which entry cannot be read
 */
export function parseSelectors(text: string): readonly EnrolmentSelector[] {
  const list: unknown = text.trim() === "" ? [] : parseYaml(text);
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
  const { matchLabels = {}, matchExpressions = [], ...rest } = value as Record<string, unknown>;
  if (Object.keys(rest).length > 0)
    throw new Error(`${where} has unknown keys ${Object.keys(rest).join(", ")}`);
  if (!isTextMap(matchLabels)) throw new Error(`${where}.matchLabels is not a map of texts`);
  if (!Array.isArray(matchExpressions) || !matchExpressions.every(isExpression))
    throw new Error(`${where}.matchExpressions is not a list of {key, operator, values}`);
  const selector: LabelSelector = { matchLabels, matchExpressions };
  return compileLabelSelector(selector);
}

type Expression = NonNullable<LabelSelector["matchExpressions"]>[number];
const OPERATORS = ["In", "NotIn", "Exists", "DoesNotExist"];

function isExpression(value: unknown): value is Expression {
  if (typeof value !== "object" || value === null) return false;
  const { key, operator, values = [] } = value as Record<string, unknown>;
  return (
    typeof key === "string" &&
    OPERATORS.includes(String(operator)) &&
    Array.isArray(values) &&
    values.every((v) => typeof v === "string")
  );
}

function isTextMap(value: unknown): value is Record<string, string> {
  return (
    typeof value === "object" &&
    value !== null &&
    Object.values(value).every((v) => typeof v === "string")
  );
}

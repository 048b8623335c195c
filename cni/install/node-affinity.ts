// Whether a pod template may run on a node: its nodeSelector and required node affinity. Pure. Upstream:
// Kubernetes `component-helpers/scheduling/corev1/nodeaffinity`.
import type { Node, NodeRequirement, NodeSelectorTerm, PodSpec } from "#lib/kube/objects.ts";

export function admitsNode(
  demands: Pick<PodSpec, "nodeSelector" | "affinity">,
  node: Node,
): boolean {
  const labels = node.metadata.labels ?? {};
  const selector = Object.entries(demands.nodeSelector ?? {});
  if (!selector.every(([key, value]) => Object.hasOwn(labels, key) && labels[key] === value))
    return false;
  const required = demands.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution;
  if (required === undefined) return true;
  return (required.nodeSelectorTerms ?? []).some((term) => matchesTerm(term, node, labels));
}

/** All requirements of a term; a term without any matches nothing. */
function matchesTerm(
  { matchExpressions = [], matchFields = [] }: NodeSelectorTerm,
  node: Node,
  labels: Readonly<Record<string, string>>,
): boolean {
  if (matchExpressions.length + matchFields.length === 0) return false;
  const fields = { "metadata.name": node.metadata.name };
  return (
    matchExpressions.every((requirement) => meets(requirement, labels)) &&
    matchFields.every((requirement) => meets(requirement, fields))
  );
}

function meets(
  { key, operator, values = [] }: NodeRequirement,
  labels: Readonly<Record<string, string>>,
): boolean {
  const value = Object.hasOwn(labels, key) ? labels[key] : undefined;
  switch (operator) {
    case "In":
      return value !== undefined && values.includes(value);
    case "NotIn":
      return value === undefined || !values.includes(value);
    case "Exists":
      return value !== undefined;
    case "DoesNotExist":
      return value === undefined;
    case "Gt":
    case "Lt": {
      const [have, bound] = [wholeNumber(value), wholeNumber(values[0])];
      if (have === null || bound === null) return false;
      return operator === "Gt" ? have > bound : have < bound;
    }
    default:
      return false; // an operator of a later Kubernetes: the scheduler would not place us either
  }
}

function wholeNumber(text: string | undefined): number | null {
  return text !== undefined && /^-?\d{1,15}$/.test(text) ? Number(text) : null;
}

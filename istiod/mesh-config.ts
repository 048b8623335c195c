// The parts of Istio's MeshConfig that matter to a mesh of node proxies, from a YAML file.
import { readFileSync } from "node:fs";
import { parse } from "yaml";
import type { LabelSelector } from "#lib/kube/objects.ts";
import type { ServiceEntryVisibility, VisibilityName } from "./translate/config.ts";

export interface MeshConfig {
  readonly trustDomain: string;
  /** `null`: the namespace istiod runs in. */
  readonly rootNamespace: string | null;
  readonly discoverySelectors: readonly LabelSelector[];
  readonly serviceEntryVisibility: ServiceEntryVisibility | null;
  /** `defaultConfig.discoveryAddress`: its host is one of istiod's names. */
  readonly discoveryAddress: string | null;
}

const DEFAULTS: MeshConfig = {
  trustDomain: "cluster.local",
  rootNamespace: null,
  discoverySelectors: [],
  serviceEntryVisibility: null,
  discoveryAddress: null,
};

type Problem = (text: string) => void;
type Fields = Readonly<Record<string, unknown>>;

const VISIBILITIES: readonly VisibilityName[] = ["PUBLIC", "NAMESPACE", "NONE"];

/** @param path `null`: all defaults. Unknown keys are ignored: the file is shared with other programs. */
export function readMeshConfig(path: string | null, problem: Problem): MeshConfig {
  if (path === null) return DEFAULTS;
  let value: unknown;
  try {
    value = parse(readFileSync(path, "utf8"), { maxAliasCount: 100 });
  } catch (error) {
    problem(`MESH_CONFIG ${path}: ${error instanceof Error ? error.message : String(error)}`);
    return DEFAULTS;
  }
  return parseMeshConfig(value ?? {}, (text) => problem(`MESH_CONFIG ${path}: ${text}`));
}

export function parseMeshConfig(value: unknown, problem: Problem): MeshConfig {
  const mesh = fields(value, "the file", problem);
  const defaults = fields(mesh["defaultConfig"] ?? {}, "defaultConfig", problem);
  const selectors = mesh["discoverySelectors"] ?? [];
  if (!Array.isArray(selectors)) problem("discoverySelectors is not a list");
  return {
    trustDomain: text(mesh, "trustDomain", problem)?.replaceAll("@", ".") ?? DEFAULTS.trustDomain,
    rootNamespace: text(mesh, "rootNamespace", problem),
    discoverySelectors: Array.isArray(selectors)
      ? selectors.map((selector, i) => labelSelector(selector, `discoverySelectors[${i}]`, problem))
      : [],
    serviceEntryVisibility: visibility(mesh["serviceEntryVisibility"], problem),
    discoveryAddress: text(defaults, "discoveryAddress", problem),
  };
}

function visibility(value: unknown, problem: Problem): ServiceEntryVisibility | null {
  if (value === undefined || value === null) return null;
  const at = "serviceEntryVisibility";
  const outer = fields(value, at, problem);
  const policies = Array.isArray(outer["policies"]) ? outer["policies"] : [];
  return {
    defaultVisibility: visibilityName(outer["defaultVisibility"], at, problem),
    policies: policies.map((entry, i) => {
      const policy = fields(entry, `${at}.policies[${i}]`, problem);
      const rules = Array.isArray(policy["matchingRules"]) ? policy["matchingRules"] : [];
      return {
        visibility: visibilityName(policy["visibility"], `${at}.policies[${i}]`, problem),
        matchingRules: rules.map((rule) => {
          const selector = fields(rule, `${at}.policies[${i}].matchingRules`, problem)[
            "namespaceSelector"
          ];
          return selector === undefined
            ? {}
            : { namespaceSelector: labelSelector(selector, `${at}.policies[${i}]`, problem) };
        }),
      };
    }),
  };
}

function visibilityName(value: unknown, at: string, problem: Problem): VisibilityName {
  if (value === undefined) return "PUBLIC";
  const known = VISIBILITIES.find((name) => name === value);
  if (known === undefined) problem(`${at}: visibility is none of ${VISIBILITIES.join(", ")}`);
  return known ?? "PUBLIC";
}

const OPERATORS = ["In", "NotIn", "Exists", "DoesNotExist"] as const;

function labelSelector(value: unknown, at: string, problem: Problem): LabelSelector {
  const selector = fields(value, at, problem);
  const labels = fields(selector["matchLabels"] ?? {}, `${at}.matchLabels`, problem);
  const expressions = selector["matchExpressions"] ?? [];
  if (!Array.isArray(expressions)) problem(`${at}.matchExpressions is not a list`);
  return {
    matchLabels: Object.fromEntries(
      Object.entries(labels).map(([key, label]) => [key, String(label)]),
    ),
    matchExpressions: (Array.isArray(expressions) ? expressions : []).map((entry) => {
      const expression = fields(entry, `${at}.matchExpressions`, problem);
      const operator = OPERATORS.find((known) => known === expression["operator"]);
      if (operator === undefined) problem(`${at}: operator is none of ${OPERATORS.join(", ")}`);
      const values = expression["values"];
      return {
        key: String(expression["key"]),
        operator: operator ?? "Exists",
        values: Array.isArray(values) ? values.map(String) : [],
      };
    }),
  };
}

function fields(value: unknown, at: string, problem: Problem): Fields {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Fields;
  problem(`${at} is not a mapping`);
  return {};
}

function text(from: Fields, key: string, problem: Problem): string | null {
  const value = from[key];
  if (value === undefined || value === null || value === "") return null;
  if (typeof value === "string") return value;
  problem(`${key} is not a text`);
  return null;
}

// The parts of Istio's MeshConfig that matter to a mesh of node proxies, from YAML.
import { readFileSync } from "node:fs";
import { type Document, LineCounter, parseDocument } from "yaml";
import { parseServerAddress } from "#lib/grpc/address.ts";
import { KubeError } from "#lib/kube/errors.ts";
import { compileLabelSelector } from "#lib/kube/labels.ts";
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

/** @param at keys and indexes from the top of the file to the field that is wrong */
type Problem = (at: Path, text: string) => void;
type Path = readonly (string | number)[];
type Fields = Readonly<Record<string, unknown>>;

const VISIBILITIES: readonly VisibilityName[] = ["PUBLIC", "NAMESPACE", "NONE"];

/** @param path `null`: all defaults. Unknown keys are ignored: the file is shared with other programs. */
export function readMeshConfig(path: string | null, problem: (text: string) => void): MeshConfig {
  if (path === null) return DEFAULTS;
  let content: string;
  try {
    content = readFileSync(path, "utf8");
  } catch (error) {
    problem(`MESH_CONFIG ${path}: ${error instanceof Error ? error.message : String(error)}`);
    return DEFAULTS;
  }
  return parseMeshConfigText(content, `MESH_CONFIG ${path}`, problem);
}

/**
 * @param source for messages: `MESH_CONFIG /etc/mesh`, `ConfigMap istio-system/istio, mesh`
 * @param problem told `<source>:<line>: <field> <what is wrong>` of every mistake
 */
export function parseMeshConfigText(
  content: string,
  source: string,
  problem: (text: string) => void,
): MeshConfig {
  const counter = new LineCounter();
  const document = parseDocument(content, { lineCounter: counter, stringKeys: true });
  const at = (line: number): string => `${source}:${line}:`;
  const [broken] = document.errors;
  if (broken !== undefined) {
    const [reason = ""] = broken.message.split(/ at line |\n/, 1);
    problem(`${at(counter.linePos(broken.pos[0]).line)} ${reason}`);
    return DEFAULTS;
  }
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 100 }) ?? {};
  } catch (error) {
    problem(`${at(1)} ${error instanceof Error ? error.message : String(error)}`); // aliases
    return DEFAULTS;
  }
  return parseMeshConfig(value, (field, text) =>
    problem(`${at(lineOf(document, field, counter))} ${dotted(field)} ${text}`),
  );
}

function parseMeshConfig(value: unknown, problem: Problem): MeshConfig {
  const mesh = fields(value, [], problem);
  const defaults = fields(mesh["defaultConfig"] ?? {}, ["defaultConfig"], problem);
  return {
    trustDomain: text(mesh, ["trustDomain"], problem)?.replaceAll("@", ".") ?? DEFAULTS.trustDomain,
    rootNamespace: text(mesh, ["rootNamespace"], problem),
    discoverySelectors: list(mesh["discoverySelectors"], ["discoverySelectors"], problem).map(
      (selector, i) => labelSelector(selector, ["discoverySelectors", i], problem),
    ),
    serviceEntryVisibility: visibility(mesh["serviceEntryVisibility"], problem),
    discoveryAddress: serverAddress(defaults, ["defaultConfig", "discoveryAddress"], problem),
  };
}

function visibility(value: unknown, problem: Problem): ServiceEntryVisibility | null {
  if (value === undefined || value === null) return null;
  const at = ["serviceEntryVisibility"];
  const outer = fields(value, at, problem);
  return {
    defaultVisibility: visibilityName(outer, [...at, "defaultVisibility"], problem),
    policies: list(outer["policies"], [...at, "policies"], problem).map((entry, i) => {
      const here = [...at, "policies", i];
      const policy = fields(entry, here, problem);
      const rules = list(policy["matchingRules"], [...here, "matchingRules"], problem);
      return {
        visibility: visibilityName(policy, [...here, "visibility"], problem),
        matchingRules: rules.map((rule, j) => {
          const there = [...here, "matchingRules", j];
          const selector = fields(rule, there, problem)["namespaceSelector"];
          return selector === undefined
            ? {}
            : {
                namespaceSelector: labelSelector(
                  selector,
                  [...there, "namespaceSelector"],
                  problem,
                ),
              };
        }),
      };
    }),
  };
}

function visibilityName(from: Fields, at: Path, problem: Problem): VisibilityName {
  const value = from[String(at.at(-1))];
  if (value === undefined) return "PUBLIC";
  const known = VISIBILITIES.find((name) => name === value);
  if (known === undefined) problem(at, `is none of ${VISIBILITIES.join(", ")}`);
  return known ?? "PUBLIC";
}

const OPERATORS = ["In", "NotIn", "Exists", "DoesNotExist"] as const;

function labelSelector(value: unknown, at: Path, problem: Problem): LabelSelector {
  const given = fields(value, at, problem);
  const labels = fields(given["matchLabels"] ?? {}, [...at, "matchLabels"], problem);
  const expressions = list(given["matchExpressions"], [...at, "matchExpressions"], problem);
  const selector: LabelSelector = {
    matchLabels: Object.fromEntries(
      Object.entries(labels).map(([key, label]) => [key, String(label)]),
    ),
    matchExpressions: expressions.map((entry, i) => {
      const here = [...at, "matchExpressions", i];
      const expression = fields(entry, here, problem);
      const operator = OPERATORS.find((known) => known === expression["operator"]);
      if (operator === undefined)
        problem([...here, "operator"], `is none of ${OPERATORS.join(", ")}`);
      const values = list(expression["values"], [...here, "values"], problem);
      const key = text(expression, [...here, "key"], problem);
      if (key === null) problem([...here, "key"], "is not set");
      return { key: key ?? "", operator: operator ?? "Exists", values: values.map(String) };
    }),
  };
  try {
    compileLabelSelector(selector);
  } catch (error) {
    if (!(error instanceof KubeError)) throw error;
    problem(at, `cannot be evaluated: ${error.message}`);
  }
  return selector;
}

function fields(value: unknown, at: Path, problem: Problem): Fields {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Fields;
  problem(at, "is not a mapping");
  return {};
}

function list(value: unknown, at: Path, problem: Problem): readonly unknown[] {
  if (value === undefined || value === null) return [];
  if (Array.isArray(value)) return value;
  problem(at, "is not a list");
  return [];
}

/** @param at ends with the field's name in `from` */
function text(from: Fields, at: Path, problem: Problem): string | null {
  const value = from[String(at.at(-1))];
  if (value === undefined || value === null || value === "") return null;
  if (typeof value === "string") return value;
  problem(at, "is not a text");
  return null;
}

function serverAddress(from: Fields, at: Path, problem: Problem): string | null {
  const value = text(from, at, problem);
  try {
    if (value !== null) parseServerAddress(value);
    return value;
  } catch (error) {
    problem(at, `is no address: ${error instanceof Error ? error.message : String(error)}`);
    return null;
  }
}

/** `discoverySelectors[0].matchLabels`. */
function dotted(at: Path): string {
  if (at.length === 0) return "the file";
  return at.map((p, i) => (typeof p === "number" ? `[${p}]` : i === 0 ? p : `.${p}`)).join("");
}

/** Where the field's value begins, or that of what it is missing from. */
function lineOf(document: Document, at: Path, counter: LineCounter): number {
  for (let depth = at.length; depth >= 0; depth--) {
    const node: unknown =
      depth === 0 ? document.contents : document.getIn(at.slice(0, depth), true);
    const range = (node as { range?: readonly number[] | null } | null | undefined)?.range;
    if (range?.[0] !== undefined) return counter.linePos(range[0]).line;
  }
  return 1;
}

// Label and field selectors: Kubernetes' text form, and the object form of `metav1.LabelSelector`.
import { KubeError } from "./errors.ts";
import type { KubeObject } from "./cluster.ts";
import type { LabelSelector } from "./objects.ts";

export type Labels = Readonly<Record<string, string>>;
/** True when the labels satisfy the selector. */
export type LabelMatcher = (labels: Labels | undefined) => boolean;

const NO_LABELS: Labels = Object.freeze({});
const KEY = "[A-Za-z0-9./_-]+";
const VALUE = "[A-Za-z0-9._-]*";
const TERMS: readonly [RegExp, (m: RegExpExecArray) => LabelMatcher][] = [
  [
    new RegExp(`^(${KEY})\\s+(in|notin)\\s*\\(([^()]*)\\)$`),
    ([, key = "", operator, list = ""]) => {
      const values = new Set(list.split(",").map((v) => v.trim()));
      return operator === "in"
        ? (labels) => values.has(own(labels, key) ?? NEVER)
        : (labels) => !values.has(own(labels, key) ?? NEVER);
    },
  ],
  [
    new RegExp(`^(${KEY})\\s*(==|=|!=)\\s*(${VALUE})$`),
    ([, key = "", operator, value = ""]) =>
      operator === "!="
        ? (labels) => own(labels, key) !== value
        : (labels) => own(labels, key) === value,
  ],
  [
    new RegExp(`^!\\s*(${KEY})$`),
    ([, key = ""]) =>
      (labels) =>
        own(labels, key) === undefined,
  ],
  [
    new RegExp(`^(${KEY})$`),
    ([, key = ""]) =>
      (labels) =>
        own(labels, key) !== undefined,
  ],
];
/** No label value: values have no newline. */
const NEVER = "\n";

/** Parses `a=b,c!=d,e in (f,g),h,!i`; empty text matches everything. @throws {KubeError} `INVALID` */
export function parseLabelSelector(text: string): LabelMatcher {
  const terms = splitTerms(text).map((term) => {
    for (const [pattern, build] of TERMS) {
      const m = pattern.exec(term);
      if (m !== null) return build(m);
    }
    throw new KubeError(
      "INVALID",
      `Cannot read the label selector ${quote(text)} at ${quote(term)}`,
    );
  });
  return (labels) => terms.every((matches) => matches(labels));
}

/** @throws {KubeError} `INVALID` for an operator or value list Kubernetes would reject */
export function compileLabelSelector(selector: LabelSelector): LabelMatcher {
  const exact = Object.entries(selector.matchLabels ?? NO_LABELS);
  const terms = (selector.matchExpressions ?? []).map(({ key, operator, values }): LabelMatcher => {
    const set = new Set(values ?? []);
    if ((operator === "In" || operator === "NotIn") !== set.size > 0)
      throw new KubeError(
        "INVALID",
        `Operator ${operator} on ${quote(key)} with ${set.size} values`,
      );
    switch (operator) {
      case "In":
        return (labels) => set.has(own(labels, key) ?? NEVER);
      case "NotIn":
        return (labels) => !set.has(own(labels, key) ?? NEVER);
      case "Exists":
        return (labels) => own(labels, key) !== undefined;
      case "DoesNotExist":
        return (labels) => own(labels, key) === undefined;
      default:
        throw new KubeError(
          "INVALID",
          `Unknown selector operator ${quote(operator satisfies never)}`,
        );
    }
  });
  return (labels) =>
    exact.every(([key, value]) => own(labels, key) === value) && terms.every((t) => t(labels));
}

/** Every pair of `selector` is among `labels`; an empty selector selects everything. */
export function selects(selector: Labels, labels: Labels | undefined): boolean {
  for (const key in selector) if (own(labels, key) !== selector[key]) return false;
  return true;
}

/** Like `selects`, but an empty selector selects nothing. */
export function nonEmptySelects(selector: Labels | undefined, labels: Labels | undefined): boolean {
  if (selector === undefined) return false;
  let any = false;
  for (const key in selector) {
    if (own(labels, key) !== selector[key]) return false;
    any = true;
  }
  return any;
}

/** `metadata.name=x,spec.nodeName!=y`: dotted paths compared as text, absent as "". @throws {KubeError} `INVALID` */
export function parseFieldSelector(text: string): (object: KubeObject) => boolean {
  const terms = splitTerms(text).map((term) => {
    const m = /^([A-Za-z0-9.]+)\s*(==|=|!=)\s*(\S*)$/.exec(term);
    if (m === null)
      throw new KubeError(
        "INVALID",
        `Cannot read the field selector ${quote(text)} at ${quote(term)}`,
      );
    const [, path = "", operator, value] = m;
    return { path: path.split("."), equal: operator !== "!=", value };
  });
  return (object) =>
    terms.every(({ path, equal, value }) => (fieldText(object, path) === value) === equal);
}

function fieldText(object: unknown, path: readonly string[]): string {
  let at: unknown = object;
  for (const key of path) {
    if (typeof at !== "object" || at === null || !Object.hasOwn(at, key)) return "";
    at = (at as Record<string, unknown>)[key];
  }
  return typeof at === "string" || typeof at === "number" || typeof at === "boolean"
    ? String(at)
    : "";
}

function own(labels: Labels | undefined, key: string): string | undefined {
  return labels !== undefined && Object.hasOwn(labels, key) ? labels[key] : undefined;
}

/** Splits at commas outside parentheses. */
function splitTerms(text: string): string[] {
  return text.trim() === "" ? [] : text.split(/,(?![^(]*\))/).map((term) => term.trim());
}

function quote(text: string): string {
  return JSON.stringify(text);
}

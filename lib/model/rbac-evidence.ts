// Why policy decided as it did: every rule tried with the first field that failed, and the rule that came nearest.
// Runs only when asked (`ambit explain`, debug logs); built on the same matcher as the decision itself.
import { formatCidr, type Cidr } from "../net/cidr.ts";
import type { Authorization, Match, ServiceAccountMatch, StringMatch } from "./authorization.ts";
import { firstFailingField, type Question } from "./policy-match.ts";

export interface FieldMiss {
  readonly field: keyof Match | "empty";
  /** What the rule asks for; negative fields start with `not `. */
  readonly want: string;
  /** What the connection has. */
  readonly got: string;
}

export interface RuleEvidence {
  readonly policy: string;
  readonly action: "Allow" | "Deny";
  readonly dryRun: boolean;
  /** From 1. */
  readonly rule: number;
  readonly matched: boolean;
  /** The first field that failed; null when the rule matched. */
  readonly miss: FieldMiss | null;
}

/** The rule that failed in the fewest fields. */
export interface NearestMiss extends FieldMiss {
  readonly policy: string;
  readonly rule: number;
}

type Clause = readonly Match[];
/** All that is wrong with a rule for one connection: per failing clause, the misses of its best match. */
type RuleMisses = readonly (readonly FieldMiss[])[];

export function ruleEvidence(
  sets: Record<"denies" | "allows" | "dryDenies" | "dryAllows", readonly Authorization[]>,
  q: Question,
): RuleEvidence[] {
  return [...sets.dryDenies, ...sets.denies, ...sets.dryAllows, ...sets.allows].flatMap((p) =>
    p.rules.map((rule, i): RuleEvidence => {
      const misses = ruleMisses(rule, q);
      return {
        policy: p.key,
        action: p.action,
        dryRun: p.dryRun,
        rule: i + 1,
        matched: misses.length === 0,
        miss: misses[0]?.[0] ?? null,
      };
    }),
  );
}

/** Fewest failing clauses, then fewest failing fields, then first. null when no policy has a rule. */
export function nearestMiss(allows: readonly Authorization[], q: Question): NearestMiss | null {
  let best: {
    readonly miss: NearestMiss;
    readonly clauses: number;
    readonly fields: number;
  } | null = null;
  for (const p of allows)
    for (const [i, rule] of p.rules.entries()) {
      const misses = ruleMisses(rule, q);
      const first = misses[0]?.[0];
      if (first === undefined) continue;
      const clauses = misses.length;
      const fields = misses.reduce((sum, m) => sum + m.length, 0);
      if (
        best !== null &&
        (clauses > best.clauses || (clauses === best.clauses && fields >= best.fields))
      )
        continue;
      best = { miss: { policy: p.key, rule: i + 1, ...first }, clauses, fields };
    }
  return best?.miss ?? null;
}

function ruleMisses(rule: readonly Clause[], q: Question): RuleMisses {
  const failing: (readonly FieldMiss[])[] = [];
  for (const clause of rule) {
    if (clause.length === 0) continue;
    const perMatch = clause.map((m) => matchMisses(m, q));
    if (perMatch.some((misses) => misses.length === 0)) continue;
    failing.push(perMatch.reduce((a, b) => (b.length < a.length ? b : a)));
  }
  return failing;
}

/** Every failing field: asked one after the other by leaving out the ones already found. */
function matchMisses(m: Match, q: Question): FieldMiss[] {
  const misses: FieldMiss[] = [];
  let rest = m;
  for (;;) {
    const field = firstFailingField(rest, q);
    if (field === null) return misses;
    if (field === "empty") {
      if (misses.length === 0)
        misses.push({
          field,
          want: "at least one condition (an empty match never matches)",
          got: "none",
        });
      return misses;
    }
    misses.push({ field, want: wanted(m, field), got: actual(field, q) });
    rest = { ...rest, [field]: [] };
  }
}

function wanted(m: Match, field: keyof Match): string {
  const entries = m[field].map((e: StringMatch | ServiceAccountMatch | Cidr | number) =>
    entryText(e),
  );
  return `${field.startsWith("not") ? "not " : ""}${entries.join(" or ")}`;
}

function entryText(e: StringMatch | ServiceAccountMatch | Cidr | number): string {
  if (typeof e === "number") return String(e);
  if ("bits" in e) return formatCidr(e);
  if ("serviceAccount" in e) return `${e.namespace}/${e.serviceAccount}`;
  switch (e.kind) {
    case "exact":
      return e.value;
    case "prefix":
      return `${e.value}*`;
    case "suffix":
      return `*${e.value}`;
    case "presence":
      return "*";
    default:
      return e satisfies never;
  }
}

const NO_IDENTITY = "no identity (plaintext)";

function actual(field: keyof Match, q: Question): string {
  switch (field) {
    case "namespaces":
    case "notNamespaces":
      return q.principal === null ? NO_IDENTITY : q.namespace;
    case "serviceAccounts":
    case "notServiceAccounts":
      return q.principal === null ? NO_IDENTITY : `${q.namespace}/${q.serviceAccount}`;
    case "principals":
    case "notPrincipals":
      return q.principal ?? NO_IDENTITY;
    case "sourceIps":
    case "notSourceIps":
      return q.conn.sourceIp;
    case "destinationIps":
    case "notDestinationIps":
      return q.conn.destinationIp;
    case "destinationPorts":
    case "notDestinationPorts":
      return String(q.conn.destinationPort);
    default:
      return field satisfies never;
  }
}

// May this connection reach this workload? Asked at the destination, for every connection, and again for open
// ones when policy changes. Source: istio/ztunnel src/rbac.rs and state.rs (assert_rbac).
import type { Brand } from "../base/brand.ts";
import type { Authorization } from "./authorization.ts";
import { matchHolds, Question, type PolicyConn } from "./policy-match.ts";
import { nearestMiss, ruleEvidence, type NearestMiss, type RuleEvidence } from "./rbac-evidence.ts";
import type { Reason } from "./tunnel.ts";

/** The policies of one workload, sorted by what they can do. Made by `policySet`, cached by MeshTables. */
export interface PolicySet {
  readonly denies: readonly Authorization[];
  readonly allows: readonly Authorization[];
  readonly dryDenies: readonly Authorization[];
  readonly dryAllows: readonly Authorization[];
  /** Names the workload lists that are not known. Skipped, as Istio does; the caller warns once. */
  readonly unknown: readonly string[];
}

/** Proof that policy was asked and said yes. Only `authorize` makes one; forwarding demands one. */
export type Permit = Brand<{ readonly conn: PolicyConn; readonly by: string | null }, "Permit">;

/** What a dry-run policy would have done. Logged, without effect. */
export interface DryRunNote {
  /** null: there are dry-run ALLOW policies, and none of them matched. */
  readonly policy: string | null;
  readonly would: "allow" | "deny";
}

interface Noted {
  readonly notes: readonly DryRunNote[];
  /** Every rule that was tried; empty unless asked for. */
  readonly evidence: readonly RuleEvidence[];
}

export type Verdict =
  /** `by`: the ALLOW policy that matched, or null when there is none to satisfy. */
  | (Noted & { readonly kind: "allow"; readonly permit: Permit; readonly by: string | null })
  /** A DENY policy matched. */
  | (Noted & { readonly kind: "deny"; readonly policy: string })
  /** ALLOW policies exist, none matched. The miss is there when evidence was asked for and a rule came near. */
  | (Noted & { readonly kind: "unmatched"; readonly nearestMiss: NearestMiss | null });

const NO_NOTES: readonly DryRunNote[] = Object.freeze([]);
const NO_EVIDENCE: readonly RuleEvidence[] = Object.freeze([]);

export const NO_POLICIES: PolicySet = Object.freeze(policySet([], []));

export function policySet(
  policies: Iterable<Authorization>,
  unknown: readonly string[] = [],
): PolicySet {
  const set = {
    denies: [] as Authorization[],
    allows: [] as Authorization[],
    dryDenies: [] as Authorization[],
    dryAllows: [] as Authorization[],
    unknown,
  };
  for (const p of policies)
    if (p.action === "Deny") (p.dryRun ? set.dryDenies : set.denies).push(p);
    else (p.dryRun ? set.dryAllows : set.allows).push(p);
  return set;
}

/**
 * Any enforced DENY that matches denies; without enforced ALLOW policies everything else is allowed; with them one
 * must match. Dry-run policies only leave notes.
 *
 * @param want  `"evidence"` also lists every rule tried and the nearest miss; costs more, decides the same
 */
export function authorize(
  policies: PolicySet,
  conn: PolicyConn,
  want: "verdict" | "evidence" = "verdict",
): Verdict {
  const q = new Question(conn);
  const evidence = want === "evidence" ? ruleEvidence(policies, q) : NO_EVIDENCE;
  let notes = NO_NOTES;
  for (const p of policies.dryDenies)
    if (policyMatches(p, q)) notes = [...notes, { policy: p.key, would: "deny" }];
  for (const p of policies.denies)
    if (policyMatches(p, q)) return { kind: "deny", policy: p.key, notes, evidence };
  if (policies.dryAllows.length > 0) notes = [...notes, ...dryAllowNotes(policies, q)];
  if (policies.allows.length === 0) return allow(conn, null, notes, evidence);
  for (const p of policies.allows)
    if (policyMatches(p, q)) return allow(conn, p.key, notes, evidence);
  const miss = want === "evidence" ? nearestMiss(policies.allows, q) : null;
  return { kind: "unmatched", nearestMiss: miss, notes, evidence };
}

/** OR of rules, AND of clauses, OR of matches. No rules: never. No clauses, or a clause without matches: always. */
function policyMatches(p: Authorization, q: Question): boolean {
  for (const rule of p.rules) if (ruleMatches(rule, q)) return true;
  return false;
}

/** The access log's reason for a refusal. Strict mTLS is a DENY policy that istiod makes from PeerAuthentication. */
export function denialReason(v: Exclude<Verdict, { kind: "allow" }>): Reason {
  if (v.kind === "unmatched") return "policy_no_allow_match";
  const name = v.policy.slice(v.policy.indexOf("/") + 1);
  const strict =
    name === "istio_converted_static_strict" || name.startsWith("converted_peer_authentication_");
  return strict ? "mtls_required" : "policy_explicit_deny";
}

function ruleMatches(rule: Authorization["rules"][number], q: Question): boolean {
  for (const clause of rule) {
    if (clause.length === 0) continue;
    let any = false;
    for (const match of clause)
      if (matchHolds(match, q)) {
        any = true;
        break;
      }
    if (!any) return false;
  }
  return true;
}

function dryAllowNotes(policies: PolicySet, q: Question): DryRunNote[] {
  const matched = policies.dryAllows.filter((p) => policyMatches(p, q));
  if (matched.length === 0 && policies.allows.length === 0)
    return [{ policy: null, would: "deny" }];
  return matched.map((p) => ({ policy: p.key, would: "allow" }));
}

function allow(
  conn: PolicyConn,
  by: string | null,
  notes: readonly DryRunNote[],
  evidence: readonly RuleEvidence[],
): Verdict {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the only place that mints a Permit
  return { kind: "allow", permit: { conn, by } as Permit, by, notes, evidence };
}

// AuthorizationPolicy → Authorization: what a ztunnel can check of a policy, and what to tell its
// author about the rest. Source: istio pilot/pkg/serviceregistry/ambient/authorization.go.
import type {
  AuthorizationCondition,
  AuthorizationOperation,
  AuthorizationRule,
  AuthorizationSource,
} from "#lib/kube/objects.ts";
import { tryParseIp } from "#lib/net/ip.ts";
import { type Cidr, parseCidr } from "#lib/net/cidr.ts";
import {
  Action,
  type Address,
  Match,
  type Rules,
  Scope,
  type ServiceAccountMatch,
  type StringMatch,
} from "#lib/wire/gen/authorization.gen.ts";
import type { TranslateConfig } from "./config.ts";
import { encodeAuthorization } from "./encode.ts";
import type { EncodedResource } from "./mesh.ts";
import type { AuthorizationPolicy } from "./objects.ts";
import { parseGoBool } from "./waypoints.ts";

export interface PolicyOutcome {
  /** `null`: nothing for ztunnels. */
  readonly resource: EncodedResource | null;
  /** For `ZtunnelAccepted`; `null` when the policy is for waypoints. */
  readonly verdict: PolicyVerdict | null;
}

export interface PolicyVerdict {
  readonly accepted: boolean;
  readonly reason: "Accepted" | "UnsupportedValue";
  readonly message: string;
}

/** Lists of a source or operation that a ztunnel cannot see. */
const L7_SOURCE = [
  "requestPrincipals",
  "notRequestPrincipals",
  "remoteIpBlocks",
  "notRemoteIpBlocks",
  // L4 by nature, but the wire form has no place for them.
  "trustDomains",
  "notTrustDomains",
] as const;
const L7_OPERATION = ["hosts", "notHosts", "methods", "notMethods", "paths", "notPaths"] as const;

export function translatePolicy(
  policy: AuthorizationPolicy,
  config: TranslateConfig,
): PolicyOutcome {
  if (policy.targets.length > 0) return { resource: null, verdict: null };
  const dryRun = parseGoBool(policy.dryRun) === true;
  if (dryRun && !config.dryRunPolicies)
    return rejected("Dry-run policies are not sent to ztunnels");
  const { action } = policy;
  if (action !== "ALLOW" && action !== "DENY")
    return rejected(`Ztunnels enforce ALLOW and DENY, not ${action}`);
  const translation = new Translation(policy.namespace, action, config.l7DenyAtL4);
  const groups = policy.rules.flatMap((rule) => translation.rule(rule));
  const resource = encodeAuthorization({
    name: policy.name,
    namespace: policy.namespace,
    scope: scopeOf(policy, config),
    action: action === "DENY" ? Action.DENY : Action.ALLOW,
    groups,
    dryRun,
  });
  return { resource, verdict: translation.verdict(groups) };
}

function scopeOf(policy: AuthorizationPolicy, config: TranslateConfig): Scope {
  if (policy.selector !== null) return Scope.WORKLOAD_SELECTOR;
  return policy.namespace === config.rootNamespace ? Scope.GLOBAL : Scope.NAMESPACE;
}

function rejected(message: string): PolicyOutcome {
  return { resource: null, verdict: { accepted: false, reason: "UnsupportedValue", message } };
}

export interface Group {
  rules: Rules[];
}

/** One policy's rules, and what of them had to be left out. */
export class Translation {
  readonly #namespace: string;
  readonly #action: "ALLOW" | "DENY";
  readonly #l7Deny: TranslateConfig["l7DenyAtL4"];
  /** What had to be left out: of the whole policy, and of the rule at hand. */
  readonly #leftOut = new Set<string>();
  #leftOutOfRule = new Set<string>();

  constructor(namespace: string, action: "ALLOW" | "DENY", l7Deny: TranslateConfig["l7DenyAtL4"]) {
    this.#namespace = namespace;
    this.#action = action;
    this.#l7Deny = l7Deny;
  }

  /** No group for an ALLOW rule that cannot be checked whole: it must not allow more than it says. */
  rule(rule: AuthorizationRule): Group[] {
    this.#leftOutOfRule = new Set();
    const clauses = [
      this.#clause((rule.to ?? []).map((to) => this.#operation(to.operation ?? {}))),
      this.#clause((rule.from ?? []).map((from) => this.#source(from.source ?? {}))),
      ...(rule.when ?? []).map((when) => this.#clause([this.#condition(when)])),
    ].filter((clause) => clause !== null);
    for (const what of this.#leftOutOfRule) this.#leftOut.add(what);
    const isWhole = this.#leftOutOfRule.size === 0;
    return this.#action === "ALLOW" && !isWhole ? [] : [{ rules: clauses }];
  }

  /** Names of attributes and values that the rules so far had to do without, sorted. */
  get leftOut(): readonly string[] {
    return [...this.#leftOut].sort();
  }

  verdict(groups: readonly Group[]): PolicyVerdict {
    if (this.#leftOut.size === 0)
      return { accepted: true, reason: "Accepted", message: "Attached to ztunnels" };
    const what = this.leftOut.join(", ");
    return {
      accepted: true,
      reason: "UnsupportedValue",
      message: `Ztunnels cannot check ${what}: ${this.#consequence(groups)}`,
    };
  }

  #consequence(groups: readonly Group[]): string {
    if (this.#action === "ALLOW")
      return groups.length === 0
        ? "no rule is left, so everything this policy applies to is denied"
        : "rules that use them allow nothing";
    return groups.some(isEffective)
      ? "they are left out, so what remains denies more than was written"
      : "no rule is left that could match, so this policy denies nothing here";
  }

  /** Matches of one `from`, `to` or `when`; `null` when it restricts nothing. */
  #clause(matches: readonly Match[]): Rules | null {
    if (matches.length === 0) return null;
    // Taken as matching what it cannot see, an item without L4 fields matches everything.
    if (this.#action === "DENY" && this.#l7Deny === "denied" && matches.some(isEmpty)) return null;
    return { matches: [...matches] };
  }

  #operation(operation: AuthorizationOperation): Match {
    for (const field of L7_OPERATION) this.#note(field, operation[field]);
    return Match.create({
      destinationPorts: this.#ports(operation.ports),
      notDestinationPorts: this.#ports(operation.notPorts),
    });
  }

  #source(source: AuthorizationSource): Match {
    for (const field of L7_SOURCE) this.#note(field, source[field]);
    return Match.create({
      principals: strings(source.principals),
      notPrincipals: strings(source.notPrincipals),
      namespaces: strings(source.namespaces),
      notNamespaces: strings(source.notNamespaces),
      serviceAccounts: this.#accounts(source.serviceAccounts),
      notServiceAccounts: this.#accounts(source.notServiceAccounts),
      sourceIps: this.#ranges(source.ipBlocks),
      notSourceIps: this.#ranges(source.notIpBlocks),
    });
  }

  #condition({ key, values, notValues }: AuthorizationCondition): Match {
    switch (key) {
      case "source.ip":
        return Match.create({
          sourceIps: this.#ranges(values),
          notSourceIps: this.#ranges(notValues),
        });
      case "source.namespace":
        return Match.create({ namespaces: strings(values), notNamespaces: strings(notValues) });
      case "source.principal":
        return Match.create({ principals: strings(values), notPrincipals: strings(notValues) });
      case "destination.ip":
        return Match.create({
          destinationIps: this.#ranges(values),
          notDestinationIps: this.#ranges(notValues),
        });
      case "destination.port":
        return Match.create({
          destinationPorts: this.#ports(values),
          notDestinationPorts: this.#ports(notValues),
        });
      default:
        this.#leftOutOfRule.add(key);
        return Match.create({});
    }
  }

  #note(field: string, values: readonly string[] | undefined): void {
    if (values !== undefined && values.length > 0) this.#leftOutOfRule.add(field);
  }

  #ports(values: readonly string[] = []): number[] {
    return this.#readable(values, (text) => {
      const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
      return port >= 1 && port <= 65_535 ? port : null;
    });
  }

  #ranges(values: readonly string[] = []): Address[] {
    return this.#readable(values, (text) => {
      const range = tryParseRange(text);
      return range === null ? null : { address: Buffer.from(range.bytes), length: range.bits };
    });
  }

  #accounts(values: readonly string[] = []): ServiceAccountMatch[] {
    return this.#readable(values, (text) => {
      const parts = text.split("/");
      if (parts.length > 2 || parts.includes("")) return null;
      const [namespace = "", serviceAccount = ""] =
        parts.length === 2 ? parts : [this.#namespace, text];
      return { namespace, serviceAccount };
    });
  }

  #readable<T>(values: readonly string[], parse: (text: string) => T | null): T[] {
    return values.flatMap((text) => {
      const value = parse(text);
      if (value === null) this.#leftOutOfRule.add(JSON.stringify(text));
      return value === null ? [] : [value];
    });
  }
}

/** Whether anything could match it, the way ztunnels evaluate. */
function isEffective(group: Group): boolean {
  return group.rules.every((clause) => clause.matches.some((match) => !isEmpty(match)));
}

function isEmpty(match: Match): boolean {
  return Object.values(match).every((list) => (list as readonly unknown[]).length === 0);
}

function strings(values: readonly string[] = []): StringMatch[] {
  return values.map((text): StringMatch => {
    if (text === "*") return PRESENCE;
    if (text.startsWith("*")) return { matchType: { $case: "suffix", value: text.slice(1) } };
    if (text.endsWith("*")) return { matchType: { $case: "prefix", value: text.slice(0, -1) } };
    return { matchType: { $case: "exact", value: text } };
  });
}

/** Any authenticated peer. */
export const PRESENCE: StringMatch = { matchType: { $case: "presence", value: {} } };

function tryParseRange(text: string): Cidr | null {
  if (!text.includes("/") && tryParseIp(text) === null) return null;
  try {
    return parseCidr(text);
  } catch {
    return null;
  }
}

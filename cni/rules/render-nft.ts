// A plan as one nftables transaction for `nft -f -`: all of it happens or nothing does, so it may be
// applied over itself at any time. Family `inet`; a rule that names an address has one twin per family.
import { hex, MASK_TEXT } from "./plan.ts";
import { MARK_MASK, NFT_TABLE, PROBE_SET, RETURN_MARK } from "./constants.ts";
import type { Action, ChainPlan, Family, Hook, Match, Rule, RulePlan, TableName } from "./plan.ts";
import { signatureOf, type Shape } from "./shape.ts";

const ALL_TABLES: readonly TableName[] = ["mangle", "nat", "raw"];

/** A base chain's type decides more than its place: the mangle output chain must be `route`, or M4 does not re-route. */
const BASE_CHAIN: Readonly<
  Record<TableName, Partial<Record<Hook, { readonly type: string; readonly priority: number }>>>
> = {
  mangle: {
    prerouting: { type: "filter", priority: -150 },
    output: { type: "route", priority: -150 },
  },
  nat: {
    prerouting: { type: "nat", priority: -100 },
    output: { type: "nat", priority: -100 },
    postrouting: { type: "nat", priority: 100 },
  },
  raw: {
    prerouting: { type: "filter", priority: -300 },
    output: { type: "filter", priority: -300 },
  },
};

/** Replaces whatever our tables hold in a pod; a table the plan lacks is deleted. */
export function renderNftPod(plan: RulePlan): string {
  const lines: string[] = [];
  const planned = new Set(plan.tables.map((table) => table.name));
  for (const name of ALL_TABLES) if (!planned.has(name)) lines.push(...deleteTable(name));
  for (const table of plan.tables) {
    const path = `inet ${NFT_TABLE[table.name]}`;
    lines.push(`add table ${path}`, `flush table ${path}`);
    for (const chain of table.chains)
      lines.push(baseChain(table.name, chain.hook), `add chain ${path} istio-${chain.hook}`);
    for (const chain of table.chains) {
      lines.push(`add rule ${path} ${chain.hook} jump istio-${chain.hook}`);
      for (const rule of nftRules(chain, plan.families))
        lines.push(`add rule ${path} istio-${chain.hook} ${rule}`);
    }
  }
  return `${lines.join("\n")}\n`;
}

/** Deletes our tables; add comes first, so that a missing table is no error. */
export function renderNftRemoval(): string {
  return `${ALL_TABLES.flatMap(deleteTable).join("\n")}\n`;
}

/** The node's rules: sets and one base chain. `flush table` empties chains and keeps set elements. */
export function renderNftHost(plan: RulePlan): string {
  const path = `inet ${NFT_TABLE.nat}`;
  const lines = [`add table ${path}`, `flush table ${path}`];
  for (const family of plan.families)
    lines.push(`add set ${path} ${PROBE_SET[family]} { type ${family}_addr; }`);
  for (const table of plan.tables)
    for (const chain of table.chains) {
      lines.push(baseChain(table.name, chain.hook));
      for (const rule of nftRules(chain, plan.families))
        lines.push(`add rule ${path} ${chain.hook} ${rule}`);
    }
  return `${lines.join("\n")}\n`;
}

export function renderNftHostRemoval(): string {
  return `${deleteTable("nat").join("\n")}\n`;
}

/** What `shapeOfNft` must find after `renderNftPod`. */
export function nftPodShape(plan: RulePlan): Shape {
  const shape = new Map<string, readonly string[]>();
  for (const table of plan.tables)
    for (const chain of table.chains) {
      shape.set(...baseShape(table.name, chain.hook, [`jump istio-${chain.hook}`]));
      shape.set(
        `${NFT_TABLE[table.name]} istio-${chain.hook}`,
        chainSignatures(chain, plan.families),
      );
    }
  return shape;
}

/** What `shapeOfNft` must find after `renderNftHost`. */
export function nftHostShape(plan: RulePlan): Shape {
  const shape = new Map<string, readonly string[]>();
  for (const table of plan.tables)
    for (const chain of table.chains)
      shape.set(...baseShape(table.name, chain.hook, chainSignatures(chain, plan.families)));
  return shape;
}

function baseShape(
  table: TableName,
  hook: Hook,
  rules: readonly string[],
): [string, readonly string[]] {
  const { type, priority } = BASE_CHAIN[table][hook] ?? { type: "?", priority: 0 };
  return [`${NFT_TABLE[table]} ${hook} (${type} ${hook} ${priority})`, rules];
}

function chainSignatures(chain: ChainPlan, families: readonly Family[]): string[] {
  return chain.rules.flatMap((rule) =>
    twins(rule, families).map((family) => signatureOf(rule.action, family ?? "ipv4")),
  );
}

function deleteTable(name: TableName): string[] {
  return [`add table inet ${NFT_TABLE[name]}`, `delete table inet ${NFT_TABLE[name]}`];
}

function baseChain(table: TableName, hook: Hook): string {
  const spec = BASE_CHAIN[table][hook];
  if (spec === undefined) throw new Error(`The ${table} table has no ${hook} chain`);
  return `add chain inet ${NFT_TABLE[table]} ${hook} { type ${spec.type} hook ${hook} priority ${spec.priority}; policy accept; }`;
}

/** Families a rule is written for; `null` stands for one rule that serves both. */
function twins(rule: Rule, families: readonly Family[]): readonly (Family | null)[] {
  const isPerFamily =
    rule.action.kind === "source-nat" ||
    rule.match.some(
      (m) => m.kind === "source" || m.kind === "destination" || m.kind === "destination-in-set",
    );
  if (isPerFamily) return families;
  // with IPv6 off a rule without address would capture IPv6 too: tie it to IPv4
  return families.length === 2 ? [null] : families;
}

function* nftRules(chain: ChainPlan, families: readonly Family[]): Generator<string> {
  for (const rule of chain.rules)
    for (const family of twins(rule, families)) {
      const match = rule.match.map((m) => nftMatch(m, family ?? "ipv4"));
      const namesFamily = rule.match.some((m) => "address" in m || "set" in m);
      if (family !== null && !namesFamily) match.unshift(`meta nfproto ${family}`);
      yield `${match.join(" ")} counter ${nftAction(rule.action, family ?? "ipv4")}`;
    }
}

function nftMatch(match: Match, family: Family): string {
  const equal = "not" in match && match.not === true ? "!=" : "==";
  const unequal = equal === "!=" ? "!= " : "";
  const ip = family === "ipv6" ? "ip6" : "ip";
  switch (match.kind) {
    case "in-interface":
      return `iifname "${match.name}"`;
    case "out-interface":
      return `oifname ${unequal}"${match.name}"`;
    case "protocol":
      return `meta l4proto ${match.protocol}`;
    case "source":
      return `${ip} saddr ${match.address[family]}`;
    case "destination":
      return `${ip} daddr ${unequal}${match.address[family]}`;
    case "destination-in-set":
      return `${ip} daddr @${match.set[family]}`;
    case "source-port":
      return `${match.protocol} sport ${unequal}${match.port}`;
    case "destination-port":
      return `${match.protocol} dport ${unequal}${match.port}`;
    case "packet-mark":
      return `meta mark & ${MASK_TEXT} ${equal} ${hex(match.value)}`;
    case "connection-mark":
      return `ct mark & ${MASK_TEXT} ${equal} ${hex(match.value)}`;
    case "local-socket":
      return match.uid === null ? "meta skuid >= 0" : `meta skuid ${match.uid}`;
    default:
      return match satisfies never;
  }
}

function nftAction(action: Action, family: Family): string {
  switch (action.kind) {
    case "redirect":
      return `redirect to :${action.port}`;
    case "accept":
    case "return":
      return action.kind;
    case "set-connection-mark":
      return `ct mark set ct mark & ${hex(~MARK_MASK >>> 0)} | ${hex(RETURN_MARK)}`;
    case "restore-mark":
      return "meta mark set ct mark";
    case "conntrack-zone":
      return `ct zone set ${action.zone}`;
    case "source-nat":
      return `snat ${family === "ipv6" ? "ip6" : "ip"} to ${action.to[family]}`;
    default:
      return action satisfies never;
  }
}

// Reads `nft --json list ruleset` and keeps the structure of our own tables. Pure.
import { NFT_TABLE, PROBE_SET } from "./constants.ts";
import { RulesError } from "./errors.ts";
import type { Family } from "./plan.ts";
import type { Shape } from "./shape.ts";

interface NftChain {
  readonly table: string;
  readonly name: string;
  readonly type?: string;
  readonly hook?: string;
  readonly prio?: number;
}

interface NftRule {
  readonly table: string;
  readonly chain: string;
  readonly expr: readonly Readonly<Record<string, unknown>>[];
}

interface NftSet {
  readonly table: string;
  readonly name: string;
  readonly elem?: readonly (string | { readonly elem: { val: string; comment?: string } })[];
}

interface NftItem {
  readonly chain?: NftChain;
  readonly rule?: NftRule;
  readonly set?: NftSet;
}

const OURS: ReadonlySet<string> = new Set(Object.values(NFT_TABLE));

/** Chains of our tables that are hooked in or hold rules. @throws {RulesError} for what nft never prints */
export function shapeOfNft(json: string): Shape {
  const chains = new Map<string, { readonly key: string; readonly rules: string[] }>();
  for (const { chain, rule } of itemsOf(json)) {
    if (chain !== undefined && OURS.has(chain.table)) {
      const base = chain.hook === undefined ? "" : ` (${chain.type} ${chain.hook} ${chain.prio})`;
      const key = `${chain.table} ${chain.name}${base}`;
      chains.set(`${chain.table} ${chain.name}`, { key, rules: [] });
    }
    if (rule !== undefined && OURS.has(rule.table))
      chains.get(`${rule.table} ${rule.chain}`)?.rules.push(signature(rule.expr));
  }
  // an empty chain does nothing: `flush table` leaves those of an earlier plan behind
  return new Map(
    [...chains.values()].filter((c) => c.rules.length > 0).map((c) => [c.key, c.rules]),
  );
}

/** Members of the node's probe sets, address → comment. A set that is missing is `null`. */
export function probeMembersOfNft(json: string): Record<Family, Map<string, string> | null> {
  const members: Record<Family, Map<string, string> | null> = { ipv4: null, ipv6: null };
  for (const { set } of itemsOf(json)) {
    if (set === undefined || set.table !== NFT_TABLE.nat) continue;
    for (const family of ["ipv4", "ipv6"] as const) {
      if (set.name !== PROBE_SET[family]) continue;
      members[family] = new Map(
        (set.elem ?? []).map((e) =>
          typeof e === "string" ? [e, ""] : [e.elem.val, e.elem.comment ?? ""],
        ),
      );
    }
  }
  return members;
}

function itemsOf(json: string): readonly NftItem[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(json === "" ? '{"nftables":[]}' : json);
  } catch (cause) {
    throw new RulesError("COMMAND_FAILED", "nft printed something that is not JSON", { cause });
  }
  const items = (parsed as { nftables?: unknown } | null)?.nftables;
  if (!Array.isArray(items))
    throw new RulesError("COMMAND_FAILED", "nft printed JSON without a ruleset");
  return items as readonly NftItem[];
}

function signature(expr: NftRule["expr"]): string {
  const last = expr.at(-1) ?? {};
  const [kind = "nothing", value] = Object.entries(last)[0] ?? [];
  switch (kind) {
    case "redirect":
      return `redirect ${String((value as { port?: unknown } | null)?.port)}`;
    case "jump":
      return `jump ${String((value as { target?: unknown } | null)?.target)}`;
    case "snat":
      return `snat ${String((value as { addr?: unknown } | null)?.addr)}`;
    case "mangle":
      return mangleSignature(value as { readonly key?: unknown; readonly value?: unknown });
    default:
      return kind;
  }
}

function mangleSignature(mangle: { readonly key?: unknown; readonly value?: unknown }): string {
  switch (JSON.stringify(mangle.key)) {
    case '{"ct":{"key":"mark"}}':
      return "set-connection-mark";
    case '{"meta":{"key":"mark"}}':
      return "restore-mark";
    case '{"ct":{"key":"zone"}}':
      return `zone ${String(mangle.value)}`;
    default:
      return `mangle ${JSON.stringify(mangle.key)}`;
  }
}

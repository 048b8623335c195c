// A plan as text for `iptables-restore --noflush` and `ip6tables-restore --noflush`: one atomic step
// per table. What is already there (inspect-iptables.ts) is taken out in the same step, so a repair
// never leaves a moment without rules.
import { MARK_MASK, RETURN_MARK } from "./constants.ts";
import type { IptablesListing } from "./inspect-iptables.ts";
import { hex, MASK_TEXT } from "./plan.ts";
import type { Action, Family, Hook, Match, RulePlan, TableName } from "./plan.ts";
import { signatureOf, type Shape } from "./shape.ts";

/** Our chain for each hook. */
export const ISTIO_CHAIN = {
  prerouting: "ISTIO_PRERT",
  output: "ISTIO_OUTPUT",
  postrouting: "ISTIO_POSTRT",
} as const satisfies Record<Hook, string>;

const ALL_TABLES: readonly TableName[] = ["mangle", "nat", "raw"];
const FULL_MASK = "0xffffffff";

export interface RenderOptions {
  /** What the namespace holds now; without it the text fails, changing nothing, when our chains exist. */
  readonly residue?: IptablesListing;
  /** The node's jump goes first, before masquerading; a pod's jumps are appended. */
  readonly jumpFirst?: boolean;
}

export function renderIptables(
  plan: RulePlan,
  family: Family,
  options: RenderOptions = {},
): string {
  const lines: string[] = [];
  for (const name of ALL_TABLES) {
    const table = plan.tables.find((t) => t.name === name);
    const body = options.residue === undefined ? [] : removals(options.residue, name);
    for (const chain of table?.chains ?? []) body.push(`-N ${ISTIO_CHAIN[chain.hook]}`);
    for (const chain of table?.chains ?? []) {
      const target = ISTIO_CHAIN[chain.hook];
      const builtin = chain.hook.toUpperCase();
      body.push(
        options.jumpFirst === true ? `-I ${builtin} 1 -j ${target}` : `-A ${builtin} -j ${target}`,
      );
      for (const rule of chain.rules) {
        const match = rule.match.map((m) => iptablesMatch(m, family)).join(" ");
        body.push(`-A ${target} ${match} ${iptablesAction(rule.action, family)}`);
      }
    }
    if (body.length > 0) lines.push(`*${name}`, ...body, "COMMIT");
  }
  return lines.length === 0 ? "" : `${lines.join("\n")}\n`;
}

/** Takes out exactly what the listing shows; empty when there is nothing of ours. */
export function renderIptablesRemoval(residue: IptablesListing): string {
  return renderIptables({ families: [], tables: [] }, "ipv4", { residue });
}

/** What `shapeOfIptables` must find after `renderIptables`. */
export function iptablesShape(plan: RulePlan, family: Family): Shape {
  const shape = new Map<string, readonly string[]>();
  for (const table of plan.tables)
    for (const chain of table.chains) {
      const target = ISTIO_CHAIN[chain.hook];
      shape.set(`${family} ${table.name} ${chain.hook.toUpperCase()}`, [`jump ${target}`]);
      shape.set(
        `${family} ${table.name} ${target}`,
        chain.rules.map((rule) => signatureOf(rule.action, family)),
      );
    }
  return shape;
}

function removals(residue: IptablesListing, name: TableName): string[] {
  const table = residue.get(name);
  if (table === undefined) return [];
  return [
    ...table.jumps.map((rule) => `-D${rule.slice(2)}`),
    ...[...table.chains.keys()].map((chain) => `-F ${chain}`),
    ...[...table.chains.keys()].map((chain) => `-X ${chain}`),
  ];
}

function iptablesMatch(match: Match, family: Family): string {
  const not = "not" in match && match.not === true ? "! " : "";
  switch (match.kind) {
    case "in-interface":
      return `-i ${match.name}`;
    case "out-interface":
      return `${not}-o ${match.name}`;
    case "protocol":
      return `-p ${match.protocol}`;
    case "source":
      return `-s ${withPrefix(match.address[family])}`;
    case "destination":
      return `${not}-d ${withPrefix(match.address[family])}`;
    case "destination-in-set":
      return `-m set --match-set ${match.set[family]} dst`;
    case "source-port":
      return `-p ${match.protocol} -m ${match.protocol} ${not}--sport ${match.port}`;
    case "destination-port":
      return `-p ${match.protocol} -m ${match.protocol} ${not}--dport ${match.port}`;
    case "packet-mark":
      return `-m mark ${not}--mark ${hex(match.value)}/${MASK_TEXT}`;
    case "connection-mark":
      return `-m connmark ${not}--mark ${hex(match.value)}/${MASK_TEXT}`;
    case "local-socket":
      return match.uid === null
        ? "-m owner --socket-exists"
        : `-m owner --socket-exists --uid-owner ${match.uid}`;
    default:
      return match satisfies never;
  }
}

function withPrefix(address: string): string {
  return `${address}/${address.includes(":") ? 128 : 32}`;
}

function iptablesAction(action: Action, family: Family): string {
  switch (action.kind) {
    case "redirect":
      return `-j REDIRECT --to-ports ${action.port}`;
    case "accept":
      return "-j ACCEPT";
    case "return":
      return "-j RETURN";
    case "set-connection-mark":
      return `-j CONNMARK --set-xmark ${hex(RETURN_MARK)}/${hex(MARK_MASK)}`;
    case "restore-mark":
      return `-j CONNMARK --restore-mark --nfmask ${FULL_MASK} --ctmask ${FULL_MASK}`;
    case "conntrack-zone":
      return `-j CT --zone ${action.zone}`;
    case "source-nat":
      return `-j SNAT --to-source ${action.to[family]}`;
    default:
      return action satisfies never;
  }
}

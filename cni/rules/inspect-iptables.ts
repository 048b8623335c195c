// Reads `iptables-save` and keeps what is ours: chains named ISTIO_*, and every rule that jumps to
// one of them from elsewhere. Pure. Leftovers of other versions are found the same way.
import type { Family } from "./plan.ts";
import type { Shape } from "./shape.ts";

export interface IptablesTable {
  /** ISTIO_* chain → its rules as printed (`-A CHAIN …`). */
  readonly chains: ReadonlyMap<string, readonly string[]>;
  /** Rules of other chains that jump to an ISTIO_* chain, as printed. */
  readonly jumps: readonly string[];
}

/** By table name; tables that hold nothing of ours are absent. */
export type IptablesListing = ReadonlyMap<string, IptablesTable>;

const OUR_JUMP = /\s(?:-j|-g)\s(ISTIO_\S+)/;

export function parseIptablesSave(text: string): IptablesListing {
  const tables = new Map<string, { chains: Map<string, string[]>; jumps: string[] }>();
  let current = { chains: new Map<string, string[]>(), jumps: [] as string[] };
  for (const line of text.split("\n")) {
    if (line.startsWith("*")) {
      current = { chains: new Map(), jumps: [] };
      tables.set(line.slice(1).trim(), current);
    } else if (line.startsWith(":ISTIO_")) {
      current.chains.set(line.slice(1, line.indexOf(" ")), []);
    } else if (line.startsWith("-A ")) {
      const chain = line.split(" ", 2)[1] ?? "";
      if (chain.startsWith("ISTIO_")) current.chains.get(chain)?.push(line);
      else if (OUR_JUMP.test(line)) current.jumps.push(line);
    }
  }
  for (const [name, table] of tables)
    if (table.chains.size === 0 && table.jumps.length === 0) tables.delete(name);
  return tables;
}

export function shapeOfIptables(listing: IptablesListing, family: Family): Shape {
  const shape = new Map<string, string[]>();
  for (const [name, table] of listing) {
    for (const [chain, rules] of table.chains)
      shape.set(`${family} ${name} ${chain}`, rules.map(signature));
    for (const jump of table.jumps) {
      const key = `${family} ${name} ${jump.split(" ", 2)[1] ?? ""}`;
      shape.set(key, [...(shape.get(key) ?? []), signature(jump)]);
    }
  }
  return shape;
}

function signature(rule: string): string {
  const [, target = "", rest = ""] = /\s(?:-j|-g)\s(\S+)(.*)$/.exec(rule) ?? [];
  const value = (option: string): string => new RegExp(`${option}\\s(\\S+)`).exec(rest)?.[1] ?? "?";
  switch (target) {
    case "REDIRECT":
      return `redirect ${value("--to-ports")}`;
    case "CONNMARK":
      return rest.includes("--restore-mark") ? "restore-mark" : "set-connection-mark";
    case "CT":
      return `zone ${value("--zone")}`;
    case "SNAT":
      return `snat ${value("--to-source")}`;
    case "ACCEPT":
    case "RETURN":
      return target.toLowerCase();
    default:
      return `jump ${target}`;
  }
}

// Policy routing inside a pod: packets marked 0x111 are replies of the application to a proxy socket
// that carries the client's address; table 100 delivers them over `lo` instead of the wire. Both
// families are handled on their own: what one already has says nothing about the other.
import { MARK_MASK, RETURN_MARK, ROUTE_TABLE, RULE_PRIORITY } from "./constants.ts";
import type { Family } from "./plan.ts";
import { hex } from "./plan.ts";

const RULE = `fwmark ${hex(RETURN_MARK)}/${hex(MARK_MASK)} lookup ${ROUTE_TABLE} priority ${RULE_PRIORITY}`;
const ROUTE: Readonly<Record<Family, string>> = {
  ipv4: `local 0.0.0.0/0 dev lo scope host table ${ROUTE_TABLE}`,
  ipv6: `local ::/0 dev lo table ${ROUTE_TABLE}`,
};

/** Lines for `ip -4|-6 -force -batch -`. The rule is created exclusively: "File exists" means it is there. */
export function routeAdditions(family: Family): readonly string[] {
  return [`rule add ${RULE}`, `route replace ${ROUTE[family]}`];
}

export function routeRemovals(family: Family): readonly string[] {
  return [`rule del ${RULE}`, `route del ${ROUTE[family]}`];
}

export const SHOW_ROUTES: readonly string[] = ["rule show", `route show table ${ROUTE_TABLE}`];

/** What `ip` says when the wanted state is there already. */
const HARMLESS: Readonly<Record<"add" | "remove", RegExp>> = {
  add: /File exists/,
  remove: /No such file or directory|No such process|table does not exist|No such device/,
};

/** Complaints of `ip -force -batch -` that matter. @param stderr printed under LC_ALL=C */
export function routeFaults(stderr: string, verb: "add" | "remove"): string[] {
  return stderr
    .split("\n")
    .map((line) => line.trim())
    .filter(
      (line) =>
        line !== "" &&
        !line.startsWith("#") && // iptables warns that the other flavour has tables too
        !line.startsWith("Command failed ") &&
        !HARMLESS[verb].test(line),
    );
}

interface IpRule {
  readonly priority?: number;
  readonly fwmark?: string;
  readonly fwmask?: string;
  readonly table?: string;
}

interface IpRoute {
  readonly type?: string;
  readonly dst?: string;
  readonly dev?: string;
}

/**
 * What is missing, from the output of `ip -json -force -batch -` over SHOW_ROUTES: one JSON array
 * a line, and none for a table that does not exist.
 */
export function routeDifferences(json: string, family: Family): string[] {
  const [rules = [], routes = []] = json
    .split("\n")
    .filter((line) => line.startsWith("["))
    .map((line) => JSON.parse(line) as readonly unknown[]);
  const hasRule = (rules as readonly IpRule[]).some(
    (r) =>
      r.priority === RULE_PRIORITY &&
      Number(r.fwmark) === RETURN_MARK &&
      Number(r.fwmask) === MARK_MASK &&
      r.table === String(ROUTE_TABLE),
  );
  const hasRoute = (routes as readonly IpRoute[]).some(
    (r) => r.type === "local" && r.dst === "default" && r.dev === "lo",
  );
  return [
    ...(hasRule ? [] : [`${family} rule ${RULE_PRIORITY} is missing`]),
    ...(hasRoute ? [] : [`${family} route of table ${ROUTE_TABLE} is missing`]),
  ];
}

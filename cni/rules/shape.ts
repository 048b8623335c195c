// The structure of rules, whatever tool printed them: for each chain the ordered outcomes of its
// rules. Plans and listings are reduced to it and compared, because kernels and tools print the same
// rule differently (mask folding, port names), so that comparing text proves nothing.
import type { Action, Family } from "./plan.ts";

/** `chain` → signatures in order, e.g. `"ipv4 nat ISTIO_PRERT" → ["accept", "redirect 15006"]`. */
export type Shape = ReadonlyMap<string, readonly string[]>;

/** What a rule does, as one word or two. */
export function signatureOf(action: Action, family: Family): string {
  switch (action.kind) {
    case "redirect":
      return `redirect ${action.port}`;
    case "conntrack-zone":
      return `zone ${action.zone}`;
    case "source-nat":
      return `snat ${action.to[family]}`;
    case "accept":
    case "return":
    case "set-connection-mark":
    case "restore-mark":
      return action.kind;
    default:
      return action satisfies never;
  }
}

/** Differences as sentences, empty when `actual` is exactly `wanted`. */
export function differences(wanted: Shape, actual: Shape): string[] {
  const found: string[] = [];
  for (const [chain, rules] of wanted) {
    const have = actual.get(chain);
    if (have === undefined) found.push(`${chain} is missing`);
    else if (have.join("\n") !== rules.join("\n"))
      found.push(`${chain} holds [${have.join(", ")}], wanted [${rules.join(", ")}]`);
  }
  for (const chain of actual.keys())
    if (!wanted.has(chain)) found.push(`${chain} does not belong here`);
  return found;
}

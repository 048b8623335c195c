// Brings a pod plan into a network namespace, proves that it is there, takes it out again. Applying
// twice is applying once; removing what is absent succeeds. Each operation is one shell process
// (two for iptables when something is there already).
import type { Backend, IptablesTools } from "./backend.ts";
import { RulesError } from "./errors.ts";
import { commandFailed, type ScriptResult, type ScriptRunner } from "./exec.ts";
import { parseIptablesSave, shapeOfIptables, type IptablesListing } from "./inspect-iptables.ts";
import { shapeOfNft } from "./inspect-nft.ts";
import type { Family, RulePlan } from "./plan.ts";
import { iptablesShape, renderIptables, renderIptablesRemoval } from "./render-iptables.ts";
import { nftPodShape, renderNftPod, renderNftRemoval } from "./render-nft.ts";
import {
  routeAdditions,
  routeDifferences,
  routeFaults,
  routeRemovals,
  SHOW_ROUTES,
} from "./routes.ts";
import { ipBatch, mustFeed, PROLOGUE, READ_LO6, section, sections } from "./script.ts";
import { differences } from "./shape.ts";

/** Exit code of our scripts when the filter, rather than the routing, was refused. */
const FILTER_REFUSED = 90;

/** Idempotent. @throws {RulesError} naming what the tool said; the tables are then as before */
export async function applyPodRules(
  runner: ScriptRunner,
  backend: Backend,
  plan: RulePlan,
  signal?: AbortSignal,
): Promise<void> {
  if (backend.kind === "nft") {
    checkAdded(
      await runner.run(applyScript([refusable("nft -f -", renderNftPod(plan))], plan), signal),
    );
    return;
  }
  const fresh = await runner.run(applyScript(restores(backend, plan, null), plan), signal);
  if (fresh.code !== FILTER_REFUSED) return checkAdded(fresh);
  // refused: our chains exist (or the kernel lacks something, which the second try then reports)
  const residue = await listIptables(runner, backend, signal);
  checkAdded(await runner.run(applyScript(restores(backend, plan, residue), plan), signal));
}

/** Compares the namespace with the plan. Empty when every rule, chain, route and policy rule is there. */
export async function podRuleFaults(
  runner: ScriptRunner,
  backend: Backend,
  plan: RulePlan,
  signal?: AbortSignal,
): Promise<string[]> {
  const listed = await runner.run(inspectScript(backend), signal);
  if (listed.code !== 0) throw commandFailed("List the rules", listed);
  const parts = sections(listed.stdout);
  const faults: string[] = [];
  if (backend.kind === "nft")
    faults.push(...differences(nftPodShape(plan), shapeOfNft((parts.get("nft") ?? "").trim())));
  else
    for (const [family] of toolsOf(backend)) {
      const listing = parseIptablesSave(parts.get(`save ${family}`) ?? "");
      const wanted = plan.families.includes(family)
        ? iptablesShape(plan, family)
        : new Map<string, string[]>();
      faults.push(...differences(wanted, shapeOfIptables(listing, family)));
    }
  const lo6 = (parts.get("lo6") ?? "").trim();
  for (const family of plan.families)
    if (family === "ipv4" || lo6 === "0")
      faults.push(...routeDifferences(parts.get(`ip ${family}`) ?? "", family));
  return faults;
}

/** Whether anything of ours is inside: chains, tables, or the policy rule. */
export async function hasPodRules(
  runner: ScriptRunner,
  backend: Backend,
  signal?: AbortSignal,
): Promise<boolean> {
  const nothing: RulePlan = { families: [], tables: [] };
  if ((await podRuleFaults(runner, backend, nothing, signal)).length > 0) return true;
  const ip = await runner.run(`${PROLOGUE}\n${ipBatch("ipv4", SHOW_ROUTES, true)}`, signal);
  return routeDifferences(ip.stdout, "ipv4").length < 2;
}

/** Absence is success. @throws {RulesError} when something of ours stays */
export async function removePodRules(
  runner: ScriptRunner,
  backend: Backend,
  signal?: AbortSignal,
): Promise<void> {
  const filters: string[] = [];
  if (backend.kind === "nft") filters.push(refusable("nft -f -", renderNftRemoval()));
  else
    for (const [family, listing] of await listIptables(runner, backend, signal)) {
      const tools = backend[family];
      const text = renderIptablesRemoval(listing);
      if (tools !== null && text !== "") filters.push(restore(tools, backend.wait, text));
    }
  const script = [
    PROLOGUE,
    ...filters,
    READ_LO6,
    ipBatch("ipv4", routeRemovals("ipv4")),
    `if [ "$lo6" != none ]; then\n${ipBatch("ipv6", routeRemovals("ipv6"))}\nfi`,
    "exit 0",
  ].join("\n");
  const done = await runner.run(script, signal);
  if (done.code !== 0) throw commandFailed("Remove the rules", done);
  const faults = routeFaults(done.stderr, "remove");
  if (faults.length > 0)
    throw new RulesError("COMMAND_FAILED", `Cannot remove the routing: ${faults.join("; ")}`);
}

type IptablesBackend = Extract<Backend, { kind: "iptables" }>;

/** Filter first: it is what may be refused. Routing then completes it, each family by itself. */
function applyScript(filters: readonly string[], plan: RulePlan): string {
  const [rule6 = "", route6 = ""] = routeAdditions("ipv6");
  const v6 = `case $lo6 in
0) ${ipBatch("ipv6", [rule6, route6])}
;;
1) ${ipBatch("ipv6", [rule6])}
;;
esac`;
  return [
    PROLOGUE,
    ...filters,
    ipBatch("ipv4", routeAdditions("ipv4")),
    ...(plan.families.includes("ipv6") ? [READ_LO6, v6] : []),
    "exit 0",
  ].join("\n");
}

function inspectScript(backend: Backend): string {
  const lines = [PROLOGUE];
  if (backend.kind === "nft") lines.push(section("nft"), "nft --json list ruleset || exit 1");
  else
    for (const [family, tools] of toolsOf(backend))
      lines.push(section(`save ${family}`), `${tools.save} || exit 1`);
  lines.push(READ_LO6, section("lo6"), 'echo "$lo6"');
  lines.push(section("ip ipv4"), ipBatch("ipv4", SHOW_ROUTES, true));
  lines.push(section("ip ipv6"), `[ "$lo6" = 0 ] && ${ipBatch("ipv6", SHOW_ROUTES, true)}`);
  lines.push("exit 0");
  return lines.join("\n");
}

/** One restore a family. A family the plan leaves out is only cleaned. */
function restores(
  backend: IptablesBackend,
  plan: RulePlan,
  residue: ReadonlyMap<Family, IptablesListing> | null,
): string[] {
  const texts: string[] = [];
  for (const [family, tools] of toolsOf(backend)) {
    const options = residue === null ? {} : { residue: residue.get(family) ?? new Map() };
    const wanted = plan.families.includes(family) ? plan : { families: [], tables: [] };
    const text = renderIptables(wanted, family, options);
    if (text !== "") texts.push(restore(tools, backend.wait, text));
  }
  return texts;
}

function restore(tools: IptablesTools, wait: string, text: string): string {
  return refusable(`${tools.restore} --noflush ${wait}`, text);
}

function refusable(command: string, text: string): string {
  return mustFeed(command, text, FILTER_REFUSED);
}

async function listIptables(
  runner: ScriptRunner,
  backend: IptablesBackend,
  signal: AbortSignal | undefined,
): Promise<ReadonlyMap<Family, IptablesListing>> {
  const lines = [PROLOGUE];
  for (const [family, tools] of toolsOf(backend))
    lines.push(section(family), `${tools.save} || exit 1`);
  const listed = await runner.run(lines.join("\n"), signal);
  if (listed.code !== 0) throw commandFailed("List the rules", listed);
  const parts = sections(listed.stdout);
  return new Map(
    toolsOf(backend).map(([family]) => [family, parseIptablesSave(parts.get(family) ?? "")]),
  );
}

function toolsOf(backend: IptablesBackend): [Family, IptablesTools][] {
  const tools: [Family, IptablesTools][] = [["ipv4", backend.ipv4]];
  if (backend.ipv6 !== null) tools.push(["ipv6", backend.ipv6]);
  return tools;
}

function checkAdded(done: ScriptResult): void {
  if (done.code !== 0) throw commandFailed("Write the rules", done);
  const faults = routeFaults(done.stderr, "add");
  if (faults.length > 0)
    throw new RulesError("COMMAND_FAILED", `Cannot set up the routing: ${faults.join("; ")}`);
}

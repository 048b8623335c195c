// Chooses the packet filter of this node and proves, in a namespace made for it, that the rules of a
// pod can be written, read back and removed. What fails is reported per candidate, before any pod.
import type { Backend, IptablesTools } from "./backend.ts";
import { backendName } from "./backend.ts";
import { applyPodRules, podRuleFaults, removePodRules } from "./apply.ts";
import { PROBE_SET } from "./constants.ts";
import { RulesError } from "./errors.ts";
import type { ScriptResult, ScriptRunner } from "./exec.ts";
import { planPodRules } from "./plan.ts";
import { feed, PROLOGUE, section, sections } from "./script.ts";

export interface DetectOptions {
  /** `NATIVE_NFTABLES`. */
  readonly preferNft: boolean;
  /** `FORCE_IPTABLES_BINARY`. */
  readonly forceIptables: "legacy" | "nft" | null;
  readonly ipv6: boolean;
}

export interface Detected {
  readonly backend: Backend;
  /** Why an earlier candidate was passed over; empty in the ordinary case. */
  readonly notes: readonly string[];
}

/** @param runner of the node's namespace. @throws {RulesError} `NO_BACKEND`, saying why each candidate failed */
export async function detectBackend(
  runner: ScriptRunner,
  options: DetectOptions,
): Promise<Detected> {
  const probe = await runner.run(probeScript());
  const parts = sections(probe.stdout);
  const said = (name: string): string => (parts.get(name) ?? "").trim();
  const notes: string[] = [];
  const candidates: Backend[] = [];
  if (options.preferNft && options.forceIptables === null) {
    if (said("ipset") === "present")
      notes.push(
        "nftables: probe sets of the iptables flavour exist on this node until it reboots",
      );
    else if (said("nft json").includes("JSON support not compiled-in"))
      notes.push("nftables: nft is built without JSON support");
    else candidates.push({ kind: "nft" });
  }
  candidates.push(iptablesBackend(flavour(options, said), options.ipv6, said));
  // no iptables wanted, but nothing else works: better nftables than no mesh
  if (!options.preferNft && options.forceIptables === null) candidates.push({ kind: "nft" });
  for (const backend of candidates) {
    const why = await refusal(runner, backend, options.ipv6);
    if (why === null) return { backend, notes };
    notes.push(`${backendName(backend)}: ${why}`);
  }
  throw new RulesError(
    "NO_BACKEND",
    `Cannot redirect pods on this node. Needed are NET_ADMIN and SYS_ADMIN, ip, and nft (with JSON) or iptables, with kernel support for nat, connmark and ct zones. ${notes.join("; ")}`,
  );
}

/** `null` when a pod's rules can be written, proved and removed with `backend`; else what went wrong. */
async function refusal(
  runner: ScriptRunner,
  backend: Backend,
  ipv6: boolean,
): Promise<string | null> {
  // the script runs in a fresh namespace that ends with it: three steps, one shell
  const scratch: ScriptRunner = {
    run: (script, signal) =>
      runner.run(
        `${PROLOGUE}\n${feed("unshare --net /bin/sh -s", `ip link set lo up || exit 1\n${script.replaceAll("AMBIT_END", "AMBIT_IN")}`)}`,
        signal,
      ),
  };
  const plan = planPodRules({
    dnsCapture: true,
    ipv6,
    bypassInbound: false,
    virtualInterfaces: ["ambit0"],
  });
  const scripts: string[] = [];
  const recorder: ScriptRunner = {
    run: (script) => {
      scripts.push(script);
      return scratch.run(script);
    },
  };
  try {
    await applyPodRules(recorder, backend, plan);
    return await readBack(scratch, scripts, backend, plan);
  } catch (error) {
    if (error instanceof RulesError) return error.message;
    throw error;
  }
}

/** Writes and lists in one namespace, so that the listing shows what was written. */
async function readBack(
  scratch: ScriptRunner,
  written: readonly string[],
  backend: Backend,
  plan: ReturnType<typeof planPodRules>,
): Promise<string | null> {
  const after: ScriptRunner = {
    run: async (script): Promise<ScriptResult> => {
      const last = written.at(-1) ?? "";
      return scratch.run(`(${last}\n) >/dev/null 2>&1\n${script}`);
    },
  };
  const faults = await podRuleFaults(after, backend, plan);
  await removePodRules(after, backend);
  return faults.length === 0 ? null : faults.join(", ");
}

function probeScript(): string {
  return [
    PROLOGUE,
    section("ipset"),
    `ipset -q list -n ${PROBE_SET.ipv4} >/dev/null 2>&1 || ipset -q list -n ${PROBE_SET.ipv6} >/dev/null 2>&1 && echo present`,
    section("nft json"),
    "nft --json list tables 2>&1 >/dev/null",
    section("legacy"),
    // three lines or more: somebody on this node works with legacy tables
    'n=0; iptables-legacy-save 2>/dev/null | while read -r _; do n=$((n+1)); [ "$n" = 3 ] && echo used; done',
    section("has"),
    "for c in iptables-legacy-restore ip6tables-legacy-restore iptables-nft-restore ip6tables-nft-restore iptables-restore ip6tables-restore; do command -v $c >/dev/null && echo $c; done",
    "exit 0",
  ].join("\n");
}

type Flavour = "legacy" | "nft" | "plain";

function flavour(options: DetectOptions, said: (name: string) => string): Flavour {
  if (options.forceIptables !== null) return options.forceIptables;
  if (said("legacy") === "used") return "legacy";
  return said("has").split("\n").includes("iptables-nft-restore") ? "nft" : "plain";
}

function iptablesBackend(
  kind: Flavour,
  ipv6: boolean,
  said: (name: string) => string,
): Extract<Backend, { kind: "iptables" }> {
  const tools = (base: string): IptablesTools => {
    const command = kind === "plain" ? base : `${base}-${kind}`;
    return { command, restore: `${command}-restore`, save: `${command}-save` };
  };
  const has6 = said("has").split("\n").includes(tools("ip6tables").restore);
  return {
    kind: "iptables",
    ipv4: tools("iptables"),
    // a missing ip6tables is reported by its first use when IPv6 is on, and irrelevant otherwise
    ipv6: ipv6 || has6 ? tools("ip6tables") : null,
    wait: kind === "legacy" ? "--wait=30" : "",
  };
}

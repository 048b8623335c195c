// The node's side: the probe exemption rule and the sets of pod addresses it applies to. Changes are
// serialised and coalesced: what arrives while one transaction runs goes into the next, as one.
import type { Ip } from "#lib/net/ip.ts";
import { isIpv6 } from "#lib/net/ip.ts";
import type { Backend } from "./backend.ts";
import { NFT_TABLE, PROBE_SET } from "./constants.ts";
import { RulesError } from "./errors.ts";
import { commandFailed, type ScriptRunner } from "./exec.ts";
import { parseIptablesSave, shapeOfIptables, type IptablesListing } from "./inspect-iptables.ts";
import { probeMembersOfNft, shapeOfNft } from "./inspect-nft.ts";
import type { Family, RulePlan } from "./plan.ts";
import { ISTIO_CHAIN, iptablesShape, renderIptables } from "./render-iptables.ts";
import { nftHostShape, renderNftHost, renderNftHostRemoval } from "./render-nft.ts";
import { feed, mustFeed, PROLOGUE, section, sections } from "./script.ts";
import { differences } from "./shape.ts";

/** A pod's address and the UID written beside it. */
export interface ProbeEntry {
  readonly ip: Ip;
  readonly uid: string;
}

type Change = { readonly kind: "put" | "drop"; readonly entry: ProbeEntry };

export class HostRules {
  readonly #runner: ScriptRunner;
  readonly #backend: Backend;
  readonly #plan: RulePlan;
  /** What the sets hold, by address. This agent is their only writer. */
  #members = new Map<Ip, string>();
  #queue: Change[] = [];
  #flushing: Promise<void> | null = null;
  #last: Promise<void> = Promise.resolve();

  constructor(runner: ScriptRunner, backend: Backend, plan: RulePlan) {
    this.#runner = runner;
    this.#backend = backend;
    this.#plan = plan;
  }

  /** Rules and sets, holding exactly `entries`; no moment in between is without them. Idempotent. */
  install(entries: readonly ProbeEntry[]): Promise<void> {
    return this.#exclusive(() => {
      this.#members = new Map(entries.map((e) => [e.ip, checkUid(e.uid)]));
      return this.#writeAll();
    });
  }

  /** Exempts the probes of one address; a reused address changes its owner. */
  put(entry: ProbeEntry): Promise<void> {
    checkUid(entry.uid);
    if (this.#members.get(entry.ip) === entry.uid && this.#queue.length === 0)
      return this.#flushing ?? Promise.resolve();
    return this.#change({ kind: "put", entry });
  }

  /** Ends the exemption unless the address belongs to another pod by now. */
  drop(entry: ProbeEntry): Promise<void> {
    return this.#change({ kind: "drop", entry });
  }

  /** Differences between the node and what this object wrote; empty when all is in place. */
  faults(): Promise<string[]> {
    return this.#exclusive(() =>
      this.#backend.kind === "nft" ? this.#nftFaults() : this.#iptablesFaults(this.#backend),
    );
  }

  /** Checks, and writes everything again when something is missing. Returns what was wrong. */
  async repair(): Promise<string[]> {
    const faults = await this.faults();
    if (faults.length > 0) await this.#exclusive(() => this.#writeAll());
    return faults;
  }

  /** Takes everything out; absence is success. */
  remove(): Promise<void> {
    return this.#exclusive(async () => {
      this.#members.clear();
      if (this.#backend.kind === "nft") {
        await this.#must("Remove the host rules", feed("nft -f -", renderNftHostRemoval()));
        return;
      }
      const nothing: RulePlan = { families: [], tables: [] };
      const lines = await this.#iptablesTexts(this.#backend, nothing);
      const destroy = Object.values(PROBE_SET).map((set) => `ipset -exist destroy ${set}`);
      await this.#must("Remove the host rules", [...lines, ...destroy, "exit 0"].join("\n"));
    });
  }

  #change(change: Change): Promise<void> {
    this.#queue.push(change);
    this.#flushing ??= this.#exclusive(() => {
      this.#flushing = null;
      return this.#flush(this.#queue.splice(0));
    });
    return this.#flushing;
  }

  async #flush(changes: readonly Change[]): Promise<void> {
    const next = new Map(this.#members);
    for (const { kind, entry } of changes)
      if (kind === "put") next.set(entry.ip, entry.uid);
      else if (next.get(entry.ip) === entry.uid) next.delete(entry.ip);
    const lines: string[] = [];
    for (const [ip, uid] of next)
      if (this.#members.get(ip) !== uid) lines.push(...this.#putLines(ip, uid));
    for (const ip of this.#members.keys()) if (!next.has(ip)) lines.push(...this.#dropLines(ip));
    if (lines.length === 0) return;
    await this.#must("Change the probe sets", this.#setScript(lines));
    this.#members = next;
  }

  async #writeAll(): Promise<void> {
    const elements = [...this.#members].flatMap(([ip, uid]) => this.#putLines(ip, uid));
    if (this.#backend.kind === "nft") {
      const flush = this.#plan.families.map(
        (family) => `flush set inet ${NFT_TABLE.nat} ${PROBE_SET[family]}`,
      );
      const text = [renderNftHost(this.#plan).trimEnd(), ...flush, ...elements].join("\n");
      await this.#must("Write the host rules", feed("nft -f -", text));
      return;
    }
    // the sets come first: a rule can only name a set that exists
    const sets = this.#plan.families.flatMap((family) => {
      const type = `hash:ip family ${family === "ipv6" ? "inet6" : "inet"} comment`;
      const set = PROBE_SET[family];
      const own = elements.filter((line) => line.startsWith(`add ${set} `));
      const next = `${set}-next`;
      return [
        `create ${set} ${type}`,
        `create ${next} ${type}`,
        `flush ${next}`,
        ...own.map((line) => line.replace(`add ${set} `, `add ${next} `)),
        `swap ${next} ${set}`,
        `destroy ${next}`,
      ];
    });
    const script = [
      mustFeed("ipset -exist restore", sets.join("\n"), 1),
      ...(await this.#iptablesTexts(this.#backend, this.#plan)),
    ];
    await this.#must("Write the host rules", script.join("\n"));
  }

  #putLines(ip: Ip, uid: string): string[] {
    const family: Family = isIpv6(ip) ? "ipv6" : "ipv4";
    if (!this.#plan.families.includes(family)) return [];
    const set = PROBE_SET[family];
    if (this.#backend.kind === "iptables") return [`add ${set} ${ip} comment "${uid}"`];
    // nft keeps the old comment of an element that exists: take it out first, put it in before so
    // that taking it out cannot fail
    const path = `inet ${NFT_TABLE.nat} ${set}`;
    return [
      `add element ${path} { ${ip} }`,
      `delete element ${path} { ${ip} }`,
      `add element ${path} { ${ip} comment "${uid}" }`,
    ];
  }

  #dropLines(ip: Ip): string[] {
    const family: Family = isIpv6(ip) ? "ipv6" : "ipv4";
    if (!this.#plan.families.includes(family)) return [];
    const set = PROBE_SET[family];
    if (this.#backend.kind === "iptables") return [`del ${set} ${ip}`];
    const path = `inet ${NFT_TABLE.nat} ${set}`;
    return [`add element ${path} { ${ip} }`, `delete element ${path} { ${ip} }`];
  }

  #setScript(lines: readonly string[]): string {
    const command = this.#backend.kind === "nft" ? "nft -f -" : "ipset -exist restore";
    return feed(command, lines.join("\n"));
  }

  async #nftFaults(): Promise<string[]> {
    // a table that does not exist is a fault, not an error
    const listed = await this.#runner.run(
      `${PROLOGUE}\nnft --json list table inet ${NFT_TABLE.nat} 2>/dev/null || echo '{"nftables":[]}'`,
    );
    const faults = differences(nftHostShape(this.#plan), shapeOfNft(listed.stdout.trim()));
    const members = probeMembersOfNft(listed.stdout.trim());
    for (const family of this.#plan.families)
      faults.push(...this.#memberFaults(family, members[family]));
    return faults;
  }

  async #iptablesFaults(backend: IptablesBackend): Promise<string[]> {
    const lines = [PROLOGUE];
    for (const family of this.#plan.families) {
      const tools = backend[family];
      if (tools !== null) lines.push(section(`save ${family}`), `${tools.save} -t nat`);
      lines.push(section(`set ${family}`), `ipset -q save ${PROBE_SET[family]} || echo missing`);
    }
    const parts = sections((await this.#runner.run(lines.join("\n"))).stdout);
    const faults: string[] = [];
    for (const family of this.#plan.families) {
      const listing = ownListing(parts.get(`save ${family}`) ?? "");
      faults.push(
        ...differences(iptablesShape(this.#plan, family), shapeOfIptables(listing, family)),
      );
      faults.push(...this.#memberFaults(family, membersOfIpset(parts.get(`set ${family}`) ?? "")));
    }
    return faults;
  }

  #memberFaults(family: Family, have: ReadonlyMap<string, string> | null): string[] {
    if (have === null) return [`set ${PROBE_SET[family]} is missing`];
    const want = [...this.#members].filter(([ip]) => isIpv6(ip) === (family === "ipv6"));
    const isSame = want.length === have.size && want.every(([ip, uid]) => have.get(ip) === uid);
    return isSame ? [] : [`set ${PROBE_SET[family]} holds ${have.size}, wanted ${want.length}`];
  }

  /** Restores that replace what the node holds of ours; other ISTIO_* chains there are not ours. */
  async #iptablesTexts(backend: IptablesBackend, plan: RulePlan): Promise<string[]> {
    const texts: string[] = [];
    for (const family of ["ipv4", "ipv6"] as const) {
      const tools = backend[family];
      if (tools === null) continue;
      const saved = await this.#runner.run(`${PROLOGUE}\n${tools.save} -t nat`);
      if (saved.code !== 0) throw commandFailed("List the host rules", saved);
      const wanted = plan.families.includes(family) ? plan : { families: [], tables: [] };
      const text = renderIptables(wanted, family, {
        residue: ownListing(saved.stdout),
        jumpFirst: true,
      });
      if (text !== "") texts.push(mustFeed(`${tools.restore} --noflush ${backend.wait}`, text, 1));
    }
    return texts;
  }

  async #must(what: string, script: string): Promise<void> {
    const done = await this.#runner.run(`${PROLOGUE}\n${script}`);
    if (done.code !== 0) throw commandFailed(what, done);
  }

  #exclusive<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#last.then(work);
    this.#last = turn.then(
      () => undefined,
      () => undefined,
    );
    return turn;
  }
}

type IptablesBackend = Extract<Backend, { kind: "iptables" }>;

/** Only our chain of the node, in the nat table. */
function ownListing(saved: string): IptablesListing {
  const nat = parseIptablesSave(saved).get("nat");
  const own = ISTIO_CHAIN.postrouting;
  if (nat === undefined) return new Map();
  const chains = new Map([...nat.chains].filter(([name]) => name === own));
  const jumps = nat.jumps.filter((rule) => rule.endsWith(` -j ${own}`));
  return chains.size === 0 && jumps.length === 0
    ? new Map()
    : new Map([["nat", { chains, jumps }]]);
}

/** Reads `ipset save`: `add SET ADDRESS comment "UID"`. */
function membersOfIpset(text: string): Map<string, string> | null {
  if (text.includes("missing")) return null;
  const members = new Map<string, string>();
  for (const m of text.matchAll(/^add \S+ (\S+)(?: comment "([^"]*)")?/gm))
    members.set(m[1] ?? "", m[2] ?? "");
  return members;
}

/** Kubernetes UIDs are such; the text becomes part of a script. */
function checkUid(uid: string): string {
  if (!/^[A-Za-z0-9._-]{1,63}$/.test(uid))
    throw new RulesError("BAD_OPTION", `Not a pod UID: ${JSON.stringify(uid)}`);
  return uid;
}

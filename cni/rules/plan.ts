// What has to hold inside a pod for its traffic to pass the proxy, as data. Pure: the renderers
// (render-nft.ts, render-iptables.ts) turn a plan into text, apply.ts brings it into a namespace.
// Rule names (M3, N6 …) are those of cni/rules/README.md; their order within a chain is the contract.
import { PORT } from "#lib/net/ports.ts";
import { LOOPBACK, MARK_MASK, PROBE_SNAT, PROXY_MARK, RETURN_MARK } from "./constants.ts";
import { RulesError } from "./errors.ts";

export type Family = "ipv4" | "ipv6";
/** A value that differs by address family; a rule with one exists once per family. */
export type PerFamily = Readonly<Record<Family, string>>;
export type TableName = "mangle" | "nat" | "raw";
export type Hook = "prerouting" | "output" | "postrouting";

export type Match =
  | { readonly kind: "in-interface"; readonly name: string }
  | { readonly kind: "out-interface"; readonly name: string; readonly not?: true }
  | { readonly kind: "protocol"; readonly protocol: "tcp" }
  | { readonly kind: "source"; readonly address: PerFamily }
  | { readonly kind: "destination"; readonly address: PerFamily; readonly not?: true }
  | { readonly kind: "destination-in-set"; readonly set: PerFamily }
  | {
      readonly kind: "source-port" | "destination-port";
      readonly protocol: "tcp" | "udp";
      readonly port: number;
      readonly not?: true;
    }
  | {
      readonly kind: "packet-mark" | "connection-mark";
      readonly value: number;
      readonly not?: true;
    }
  /** The packet comes from a socket on this host: of one user, or of any. */
  | { readonly kind: "local-socket"; readonly uid: number | null };

export type Action =
  | { readonly kind: "redirect"; readonly port: number }
  | { readonly kind: "accept" | "return" }
  /** Packet mark to connection mark: RETURN_MARK, other bits kept. */
  | { readonly kind: "set-connection-mark" }
  /** Connection mark to packet mark, all bits; the packet is then routed again. */
  | { readonly kind: "restore-mark" }
  | { readonly kind: "conntrack-zone"; readonly zone: number }
  | { readonly kind: "source-nat"; readonly to: PerFamily };

export interface Rule {
  readonly id: string;
  readonly match: readonly Match[];
  readonly action: Action;
}

export interface ChainPlan {
  readonly hook: Hook;
  readonly rules: readonly Rule[];
}

export interface TablePlan {
  readonly name: TableName;
  readonly chains: readonly ChainPlan[];
}

export interface RulePlan {
  readonly families: readonly Family[];
  readonly tables: readonly TablePlan[];
}

/** Rules of one pod. Beside the tables, the policy routing of routes.ts is part of every pod plan. */
export interface PodRuleOptions {
  /** Send the pod's DNS queries to the proxy. */
  readonly dnsCapture: boolean;
  /** Without it IPv6 is not blocked, but not captured either. */
  readonly ipv6: boolean;
  /** `ambient.istio.io/bypass-inbound-capture`: only HBONE reaches the proxy, plaintext goes to the application. */
  readonly bypassInbound: boolean;
  /** `istio.io/reroute-virtual-interfaces`: bridges inside the pod whose guests' traffic is the pod's own. */
  readonly virtualInterfaces: readonly string[];
  readonly probeSource?: PerFamily;
}

const TCP: Match = { kind: "protocol", protocol: "tcp" };
const MARKED: Match = { kind: "packet-mark", value: PROXY_MARK };
const NOT_MARKED: Match = { kind: "packet-mark", value: PROXY_MARK, not: true };
const NOT_LOOPBACK: Match = { kind: "destination", address: LOOPBACK, not: true };
const NOT_OUT_LO: Match = { kind: "out-interface", name: "lo", not: true };
const ACCEPT: Action = { kind: "accept" };
const DNS_ZONE: Action = { kind: "conntrack-zone", zone: 1 };
/** More bridges than any real pod; keeps the text bounded. */
const MAX_VIRTUAL_INTERFACES = 32;

/** @throws {RulesError} `BAD_OPTION` for an interface name no kernel would accept */
export function planPodRules(options: PodRuleOptions): RulePlan {
  const virtual = options.virtualInterfaces.map(checkInterface);
  if (virtual.length > MAX_VIRTUAL_INTERFACES)
    throw new RulesError(
      "BAD_OPTION",
      `Cannot reroute ${virtual.length} virtual interfaces, at most ${MAX_VIRTUAL_INTERFACES}`,
    );
  const tables: TablePlan[] = [mangleTable(), natTable(options, virtual)];
  if (options.dnsCapture) tables.push(rawTable());
  return { families: options.ipv6 ? ["ipv4", "ipv6"] : ["ipv4"], tables };
}

/** Marks the proxy's inbound legs, so that the application's replies come back to it. */
function mangleTable(): TablePlan {
  return {
    name: "mangle",
    chains: [
      {
        hook: "prerouting",
        rules: [{ id: "M3", match: [MARKED], action: { kind: "set-connection-mark" } }],
      },
      {
        hook: "output",
        rules: [
          {
            id: "M4",
            match: [{ kind: "connection-mark", value: RETURN_MARK }],
            action: { kind: "restore-mark" },
          },
        ],
      },
    ],
  };
}

function natTable(options: PodRuleOptions, virtual: readonly string[]): TablePlan {
  const chains: ChainPlan[] = [
    { hook: "prerouting", rules: natPrerouting(options, virtual) },
    { hook: "output", rules: natOutput(options) },
  ];
  return { name: "nat", chains: chains.filter((chain) => chain.rules.length > 0) };
}

function natPrerouting(options: PodRuleOptions, virtual: readonly string[]): Rule[] {
  const rules: Rule[] = [];
  for (const name of virtual) {
    const match: Match[] = [{ kind: "in-interface", name }, TCP];
    rules.push(
      { id: "N3", match, action: { kind: "redirect", port: PORT.outbound } },
      { id: "N4", match, action: { kind: "return" } },
    );
  }
  if (options.bypassInbound) return rules;
  const probe = options.probeSource ?? PROBE_SNAT;
  rules.push(
    { id: "N5", match: [{ kind: "source", address: probe }, TCP], action: ACCEPT },
    {
      id: "N6",
      match: [
        NOT_LOOPBACK,
        { kind: "destination-port", protocol: "tcp", port: PORT.hbone, not: true },
        NOT_MARKED,
      ],
      action: { kind: "redirect", port: PORT.inboundPlaintext },
    },
  );
  return rules;
}

function natOutput(options: PodRuleOptions): Rule[] {
  const probe = options.probeSource ?? PROBE_SNAT;
  const toDns: Action = { kind: "redirect", port: PORT.dns };
  const dns: Rule[] = [
    {
      id: "N8",
      match: [NOT_OUT_LO, { kind: "destination-port", protocol: "udp", port: 53 }, NOT_MARKED],
      action: toDns,
    },
    {
      id: "N9",
      match: [NOT_LOOPBACK, { kind: "destination-port", protocol: "tcp", port: 53 }, NOT_MARKED],
      action: toDns,
    },
  ];
  return [
    { id: "N7", match: [{ kind: "destination", address: probe }, TCP], action: ACCEPT },
    ...(options.dnsCapture ? dns : []),
    { id: "N10", match: [TCP, { kind: "packet-mark", value: RETURN_MARK }], action: ACCEPT },
    {
      id: "N11",
      match: [NOT_LOOPBACK, { kind: "out-interface", name: "lo" }],
      action: ACCEPT,
    },
    {
      id: "N12",
      match: [NOT_LOOPBACK, TCP, NOT_MARKED],
      action: { kind: "redirect", port: PORT.outbound },
    },
  ];
}

/** Keeps the proxy's own queries out of the redirected flows: a source port used twice would loop. */
function rawTable(): TablePlan {
  return {
    name: "raw",
    chains: [
      {
        hook: "prerouting",
        rules: [
          {
            id: "R4",
            match: [{ kind: "source-port", protocol: "udp", port: 53 }, NOT_MARKED],
            action: DNS_ZONE,
          },
        ],
      },
      {
        hook: "output",
        rules: [
          {
            id: "R3",
            match: [{ kind: "destination-port", protocol: "udp", port: 53 }, MARKED],
            action: DNS_ZONE,
          },
        ],
      },
    ],
  };
}

/** The name becomes part of a script: only plain characters, at most 15 (IFNAMSIZ less the zero). */
function checkInterface(name: string): string {
  if (!/^[A-Za-z0-9_][A-Za-z0-9_.@-]{0,14}$/.test(name))
    throw new RulesError("BAD_OPTION", `Not an interface name: ${JSON.stringify(name)}`);
  return name;
}

/** Rule marks compare under MARK_MASK; both renderers write them this way. */
export const MASK_TEXT = `0x${MARK_MASK.toString(16)}`;

export function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

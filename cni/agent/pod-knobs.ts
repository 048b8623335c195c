// A pod's own say over its rules: annotations over the node's settings. Read when it is enrolled and
// when the agent starts; Go's ParseBool forms, anything else counts as absent.
import type { Ip } from "#lib/net/ip.ts";
import { tryParseIp } from "#lib/net/ip.ts";
import type { Pod } from "#lib/kube/objects.ts";
import type { PerFamily, PodRuleOptions } from "../rules/plan.ts";

export const REDIRECTION = "ambient.istio.io/redirection";

export interface NodeRuleDefaults {
  readonly dnsCapture: boolean;
  readonly ipv6: boolean;
  readonly probeSource: PerFamily;
}

export function ruleOptionsFor(pod: Pod, defaults: NodeRuleDefaults): PodRuleOptions {
  const annotations = pod.metadata.annotations ?? {};
  const interfaces = (annotations["istio.io/reroute-virtual-interfaces"] ?? "")
    .split(",")
    .map((part) => part.trim())
    .filter((part) => part !== "");
  return {
    dnsCapture: parseBool(annotations["ambient.istio.io/dns-capture"]) ?? defaults.dnsCapture,
    bypassInbound: parseBool(annotations["ambient.istio.io/bypass-inbound-capture"]) ?? false,
    virtualInterfaces: [...new Set(interfaces)],
    ipv6: defaults.ipv6,
    probeSource: defaults.probeSource,
  };
}

/** Addresses of the pod as its status has them; empty while it has none. */
export function podIps(pod: Pod): Ip[] {
  const { podIP, podIPs = [] } = pod.status ?? {};
  const texts = podIPs.length > 0 ? podIPs.map((entry) => entry.ip) : [podIP ?? ""];
  return texts.map(tryParseIp).filter((ip) => ip !== null);
}

export function redirectionOf(pod: Pod): string | null {
  return pod.metadata.annotations?.[REDIRECTION] ?? null;
}

function parseBool(text: string | undefined): boolean | null {
  if (text === undefined) return null;
  if (/^(1|t|T|TRUE|true|True)$/.test(text)) return true;
  return /^(0|f|F|FALSE|false|False)$/.test(text) ? false : null;
}

// What has to hold on the node: probes of the kubelet reach the pods' applications around the proxy.
// Their source becomes a fixed link-local address, which the in-pod rules N5 and N7 know. Pure.
import { PROBE_SET, PROBE_SNAT } from "./constants.ts";
import type { PerFamily, RulePlan } from "./plan.ts";

export interface HostRuleOptions {
  readonly ipv6: boolean;
  /** Exempt only sockets of this user (the kubelet's); `null` exempts every socket of the node. */
  readonly proberUid: number | null;
  readonly probeSource?: PerFamily;
}

/** Forwarded traffic has no socket on the node: it is never rewritten and stays captured. */
export function planHostRules(options: HostRuleOptions): RulePlan {
  return {
    families: options.ipv6 ? ["ipv4", "ipv6"] : ["ipv4"],
    tables: [
      {
        name: "nat",
        chains: [
          {
            hook: "postrouting",
            rules: [
              {
                id: "H1",
                match: [
                  { kind: "local-socket", uid: options.proberUid },
                  { kind: "protocol", protocol: "tcp" },
                  { kind: "destination-in-set", set: PROBE_SET },
                ],
                action: { kind: "source-nat", to: options.probeSource ?? PROBE_SNAT },
              },
            ],
          },
        ],
      },
    ],
  };
}

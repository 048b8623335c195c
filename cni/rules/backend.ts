// Which tools write the rules. Chosen once at start (detect.ts) and used for every pod of the node.

export interface IptablesTools {
  /** Program names, e.g. `iptables-legacy-restore`. */
  readonly restore: string;
  readonly save: string;
  readonly command: string;
}

export type Backend =
  | { readonly kind: "nft" }
  | {
      readonly kind: "iptables";
      readonly ipv4: IptablesTools;
      /** `null` when IPv6 is off. */
      readonly ipv6: IptablesTools | null;
      /** Given to every restore: legacy waits for the lock other programs may hold. */
      readonly wait: string;
    };

/** What logs and status print. */
export function backendName(backend: Backend): string {
  return backend.kind === "nft" ? "nftables" : backend.ipv4.command;
}

// The filters that `tunnels list` and `tunnels watch` share.
import * as Flags from "@oclif/core/flags";
import type { PeerView } from "#lib/model/tunnel.ts";
import { parseGlob, parsePeerFilter } from "./render/peer.ts";

export const tunnelFilterFlags = {
  from: Flags.string({
    summary: "Only from this source: ns/x, pod/x, an IP address or a name.",
    helpValue: "<who>",
  }),
  to: Flags.string({
    summary: "Only to this destination: ns/x, pod/x, svc/x, an IP address or a name.",
    helpValue: "<who>",
  }),
  identity: Flags.string({
    summary: "Only where either identity matches; * stands for anything.",
    helpValue: "<glob>",
  }),
  direction: Flags.string({
    summary: "Only what was seen at this end; default: each connection once.",
    options: ["inbound", "outbound"] as const,
  }),
} as const;

export interface TunnelFilterFlags {
  readonly namespace?: string | undefined;
  readonly "all-namespaces": boolean;
  readonly from?: string | undefined;
  readonly to?: string | undefined;
  readonly identity?: string | undefined;
  readonly direction?: string | undefined;
}

/** What filters look at: connections and events alike. */
export interface Ends {
  readonly direction: string;
  readonly source: PeerView;
  readonly destination: PeerView;
}

/** @throws {CliError} USAGE */
export function tunnelFilter(flags: TunnelFilterFlags): (ends: Ends) => boolean {
  const from = flags.from === undefined ? null : parsePeerFilter(flags.from);
  const to = flags.to === undefined ? null : parsePeerFilter(flags.to);
  const identity = flags.identity === undefined ? null : parseGlob(flags.identity);
  const namespace = flags["all-namespaces"] ? undefined : flags.namespace;
  return ({ direction, source, destination }) => {
    if (flags.direction !== undefined && direction !== flags.direction) return false;
    if (from !== null && !from(source)) return false;
    if (to !== null && !to(destination)) return false;
    if (
      identity !== null &&
      !identity(source.identity ?? "") &&
      !identity(destination.identity ?? "")
    )
      return false;
    return (
      namespace === undefined ||
      source.namespace === namespace ||
      destination.namespace === namespace
    );
  };
}

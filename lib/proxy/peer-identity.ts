// Who a peer is by its certificate, for the accepting side of a tunnel.
import { spiffeParts, tryParseSpiffeId, type SpiffeId } from "#lib/net/spiffe.ts";

/** Some identity of the peer must be of our own trust domain. Null: it is; else why not. */
export function checkTrustDomain(sans: readonly string[], trustDomain: string): string | null {
  for (const san of sans) {
    const id = tryParseSpiffeId(san);
    if (id !== null && spiffeParts(id).trustDomain === trustDomain) return null;
  }
  return `the peer shows ${sans.join(", ") || "no identity"}, none of trust domain ${trustDomain}`;
}

/** What policy and telemetry call the peer. */
export function firstIdentity(sans: readonly string[]): SpiffeId | null {
  for (const san of sans) {
    const id = tryParseSpiffeId(san);
    if (id !== null) return id;
  }
  return null;
}

// What a CONNECT is refused with before policy is asked, at a pod and at a waypoint.
import { type Authority, parseAuthority } from "../wire/connect-headers.ts";
import type { Reason } from "./tunnel.ts";

/** Response status of a CONNECT. 401 is policy's: see `denialReason`. */
export type ConnectStatus = 200 | 400 | 401 | 503;

export interface Refusal {
  readonly kind: "refuse";
  readonly status: Exclude<ConnectStatus, 200 | 401>;
  readonly reason: Reason;
  readonly detail: string;
}

export function refuse(status: Refusal["status"], reason: Reason, detail: string): Refusal {
  return { kind: "refuse", status, reason, detail };
}

/** @param text  the `:authority` as received */
export function authorityOrRefusal(text: string): Authority | Refusal {
  return (
    parseAuthority(text) ??
    refuse(400, "bad_authority", `CONNECT authority ${JSON.stringify(text)} has no host or no port`)
  );
}

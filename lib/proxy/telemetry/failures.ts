// Tunnel and socket errors in the words of the access log.
import { authorize, denialReason, type PolicySet, type Verdict } from "#lib/model/rbac.ts";
import type { PolicyConn } from "#lib/model/policy-match.ts";
import { errnoName } from "#lib/sys/errors.ts";
import { h2ErrorName, type HboneError } from "#lib/hbone/errors.ts";
import type { Failure } from "./connection.ts";
import type { SpliceEnd } from "../splice.ts";

export const CLIENT_RESET: Failure = Object.freeze({
  flag: "-",
  reason: "client_reset",
  detail: "the client reset its connection",
});

/** A stream that was reset, or lost with its tunnel. */
export function failureOfEnd(end: Extract<SpliceEnd, { kind: "reset" }>): Failure {
  return end.error === null
    ? {
        flag: "CONNECT",
        reason: "backend_reset",
        detail: `stream reset by the peer: ${h2ErrorName(end.code)}`,
      }
    : failureOfTunnel(end.error);
}

export function failureOfTunnel(error: HboneError): Failure {
  const detail = error.message;
  switch (error.code) {
    case "CONNECT":
      return { flag: "CONNECT", reason: "connect_failed", detail };
    case "CONNECT_TIMEOUT":
      return {
        flag: "NETWORK_POLICY",
        reason: "hbone_blocked",
        detail: `${detail}: does a NetworkPolicy block port 15008?`,
      };
    case "TLS":
      return { flag: "CONNECT", reason: "tls", detail };
    case "PEER_IDENTITY":
      return { flag: "CONNECT", reason: "identity", detail };
    case "HTTP2":
      return { flag: "H2_HANDSHAKE_FAILURE", reason: "h2", detail };
    case "NO_ANSWER":
      return { flag: "CONNECT", reason: "connect_timeout", detail };
    case "PING_TIMEOUT":
    case "PEER_CLOSED":
    case "REFUSED":
      return { flag: "CONNECT", reason: "backend_reset", detail };
    case "CLOSING":
      return { flag: "-", reason: "drained", detail };
    default:
      return error.code satisfies never;
  }
}

/** A peer whose tunnel stands, but who did not answer. @param where whom we asked, and through what */
export function failureOfSilence(error: HboneError, where: string): Failure {
  const failure = failureOfTunnel(error);
  return { ...failure, detail: `${where}: ${failure.detail}` };
}

/** A failed connect of a plain socket; -1: no answer in time. */
export function failureOfConnect(errno: number, target: string): Failure {
  return errno === -1
    ? {
        flag: "CONNECT",
        reason: "connect_timeout",
        detail: `no connection to ${target} within 10 s`,
      }
    : {
        flag: "CONNECT",
        reason: "connect_failed",
        detail: `connect to ${target}: ${errnoName(errno)}`,
      };
}

/** A denial, with the rule that came nearest. Costs a second, fuller evaluation: denials are rare. */
export function failureOfVerdict(
  verdict: Exclude<Verdict, { kind: "allow" }>,
  policies: PolicySet,
  conn: PolicyConn,
  isChange: boolean,
): Failure {
  const reason = isChange ? "policy_changed" : denialReason(verdict);
  if (verdict.kind === "deny")
    return {
      flag: "DENY",
      reason,
      detail: `denied by policy ${verdict.policy}`,
      policy: verdict.policy,
    };
  const full = authorize(policies, conn, "evidence");
  const miss = full.kind === "unmatched" ? full.nearestMiss : null;
  if (miss === null)
    return {
      flag: "DENY",
      reason,
      detail: `${policies.allows.length} ALLOW policies apply, none matches`,
    };
  return {
    flag: "DENY",
    reason,
    detail: `no ALLOW policy matches; nearest is ${miss.policy} rule ${miss.rule}: ${miss.field} wants ${miss.want}, got ${miss.got}`,
    policy: miss.policy,
  };
}

/** `x-ambit-denied`: reason and policy for the client's log. Names travel as they are: Kubernetes names are plain ASCII. */
export function deniedHeader(failure: Failure): string {
  return failure.policy === undefined ? failure.reason : `${failure.reason} ${failure.policy}`;
}

/** A peer that answered CONNECT with no. @param where whom we asked, and through what */
export function failureOfStatus(status: number, where: string, deniedBy: string | null): Failure {
  if (status !== 401)
    return { flag: "CONNECT", reason: "http_status", detail: `${where} answered ${status}` };
  const [reason, policy] = deniedBy?.split(" ") ?? [];
  return {
    flag: "CONNECT",
    reason: "http_status",
    detail: `${where} answered 401: denied by ${policy === undefined ? "its policy" : `policy ${policy}`}${reason === undefined ? "" : ` (${reason})`}`,
    ...(policy === undefined ? {} : { policy }),
  };
}

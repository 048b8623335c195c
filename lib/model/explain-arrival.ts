// The destination's half of an explanation: D1 to D5, with the functions its ztunnel runs.
import { formatSocketAddr, type Ip, type SocketAddr } from "../net/ip.ts";
import type { SpiffeId } from "../net/spiffe.ts";
import { plaintextFixes, policyFixes } from "./explain-fixes.ts";
import type { Trail } from "./explain-trail.ts";
import type { ExplanationVerdict, Fix } from "./explanation.ts";
import { decideInboundHbone, decidePlaintext } from "./inbound.ts";
import { authorize, denialReason } from "./rbac.ts";
import { workloadObject, type StageObject } from "./stage.ts";
import type { MeshTables } from "./tables.ts";
import type { Workload } from "./workload.ts";

/** What arrives at a captured pod: from whom, at which of its addresses, in which form. */
export interface Arrival {
  readonly at: Workload;
  readonly from: Workload;
  readonly sourceIp: Ip;
  /** Plaintext, or a tunnel with the peer's identity and the CONNECT authority. */
  readonly tunnel: { readonly identity: SpiffeId; readonly authority: string } | null;
  readonly target: SocketAddr;
}

export interface Outcome {
  readonly verdict: ExplanationVerdict;
  readonly fixes: readonly Fix[];
}

export function explainArrival(
  tables: MeshTables,
  network: string,
  a: Arrival,
  trail: Trail,
): Outcome {
  const target =
    a.tunnel === null
      ? plaintextTarget(a, trail)
      : tunnelTarget(tables, network, a, a.tunnel, trail);
  return target === null
    ? { verdict: "unroutable", fixes: [] }
    : explainPolicy(tables, a, target, trail);
}

function plaintextTarget(a: Arrival, trail: Trail): SocketAddr | null {
  const d = decidePlaintext({ local: a.at, originalDestination: a.target });
  if (d.kind === "drop") {
    trail.stage("D3", "stop", d.detail, workloadObject(a.at));
    return null;
  }
  trail.stage(
    "D3",
    "pass",
    `plaintext arrives at ${formatSocketAddr(d.target)}`,
    workloadObject(a.at),
  );
  return d.target;
}

function tunnelTarget(
  tables: MeshTables,
  network: string,
  a: Arrival,
  { identity, authority }: NonNullable<Arrival["tunnel"]>,
  trail: Trail,
): SocketAddr | null {
  trail.stage("D1", "pass", `peer identity ${identity}`, workloadObject(a.at));
  const d = decideInboundHbone(tables, { local: a.at, localIp: a.target.ip, authority, network });
  if (d.kind === "refuse") {
    trail.stage(
      d.status === 400 ? "D2" : "D3",
      "stop",
      `${d.status}: ${d.detail}`,
      workloadObject(a.at),
    );
    return null;
  }
  trail.stage("D2", "pass", `authority ${authority} is acceptable`);
  trail.stage("D3", "pass", `application port ${d.policyTarget.port}`);
  return d.policyTarget;
}

function explainPolicy(tables: MeshTables, a: Arrival, target: SocketAddr, trail: Trail): Outcome {
  const policies = tables.policiesFor(a.at);
  const conn = {
    sourceIp: a.sourceIp,
    identity: a.tunnel?.identity ?? null,
    destinationIp: target.ip,
    destinationPort: target.port,
  };
  for (const name of policies.unknown)
    trail.notes.push(
      `workload ${a.at.uid} names the policy ${name}, which is not known: it is skipped`,
    );
  const verdict = authorize(policies, conn, "evidence");
  for (const note of verdict.notes)
    trail.notes.push(
      `dry-run ${note.policy ?? "ALLOW policies"} would ${note.would} this connection`,
    );
  switch (verdict.kind) {
    case "allow":
      if (verdict.by === null) trail.stage("D4", "pass", "no ALLOW policy applies");
      else trail.stage("D4", "pass", `ALLOW ${verdict.by} matches`, policyObject(verdict.by));
      trail.stage("D5", "pass", `connect to ${formatSocketAddr(target)}`);
      if (a.tunnel !== null) return { verdict: "allowed", fixes: [] };
      return { verdict: "plaintext", fixes: plaintextFixes([a.from]) };
    case "deny": {
      const rule = verdict.evidence.find((e) => e.policy === verdict.policy && e.matched)?.rule;
      const why = denialReason(verdict) === "mtls_required" ? " (mTLS is required here)" : "";
      trail.stage(
        "D4",
        "stop",
        `DENY ${verdict.policy} matches${why}`,
        policyObject(verdict.policy, rule),
      );
      break;
    }
    case "unmatched": {
      trail.nearestMiss = verdict.nearestMiss;
      const keys = policies.allows.map((p) => p.key);
      const count =
        keys.length === 1
          ? "1 ALLOW policy applies, it does not match"
          : `${keys.length} ALLOW policies apply, none matches`;
      trail.stage(
        "D4",
        "stop",
        `${count}: ${keys.join(", ")}`,
        ...keys.map((key) => policyObject(key)),
      );
      break;
    }
    default:
      return verdict satisfies never;
  }
  return { verdict: "denied", fixes: policyFixes(verdict, conn, policies, a.from) };
}

function policyObject(key: string, rule?: number): StageObject {
  const slash = key.indexOf("/");
  const object = {
    kind: "AuthorizationPolicy" as const,
    namespace: key.slice(0, slash),
    name: key.slice(slash + 1),
  };
  return rule === undefined ? object : { ...object, rule };
}

// What would help, in words and commands an operator can use.
import type { Fix } from "./explanation.ts";
import { principalOf, spiffeParts, type SpiffeId } from "../net/spiffe.ts";
import type { Authorization } from "./authorization.ts";
import type { OutboundDecision } from "./outbound.ts";
import { denialReason, type PolicySet, type Verdict } from "./rbac.ts";
import type { PolicyConn } from "./policy-match.ts";
import type { Workload } from "./workload.ts";

/** Ways to let a refused connection through, the narrowest first. */
export function policyFixes(
  verdict: Exclude<Verdict, { kind: "allow" }>,
  conn: PolicyConn,
  policies: PolicySet,
  source: Workload,
): Fix[] {
  if (denialReason(verdict) === "mtls_required")
    return [
      {
        text: `enroll namespace ${source.namespace}, so that ${source.namespace}/${source.name} connects with an identity`,
        command: `ambit enroll ns/${source.namespace}`,
      },
    ];
  if (verdict.kind === "deny")
    return [
      {
        text: `narrow or remove the rule of AuthorizationPolicy ${verdict.policy} that matches this connection`,
      },
    ];
  const miss = verdict.nearestMiss;
  if (miss !== null) {
    const addition = admits(miss.field, conn);
    if (addition !== null)
      return [{ text: `${addition} to rule ${miss.rule} of AuthorizationPolicy ${miss.policy}` }];
    return [
      {
        text: `change rule ${miss.rule} of AuthorizationPolicy ${miss.policy}: it wants ${miss.want}`,
      },
    ];
  }
  return [{ text: `add a rule to ${namesOf(policies.allows)}: without rules it allows nothing` }];
}

export function routeFixes(decision: Extract<OutboundDecision, { kind: "reject" }>): Fix[] {
  const { reason, service } = decision;
  const where = service === null ? "" : ` -n ${service.namespace}`;
  if (reason === "unknown_waypoint")
    return [
      { text: "bring the waypoint back, or stop using it", command: `ambit get gateways${where}` },
    ];
  if (reason === "no_healthy_upstream" && service !== null)
    return [
      {
        text: `look at the endpoints and ports of service ${service.namespace}/${service.name}`,
        command: `kubectl get endpointslices${where} -l kubernetes.io/service-name=${service.name}`,
      },
    ];
  return [];
}

/** For a connection that works, but in the clear. */
export function plaintextFixes(unenrolled: readonly Workload[]): Fix[] {
  const namespaces = [...new Set(unenrolled.map((w) => w.namespace))];
  return namespaces.map((ns) => ({
    text: `enroll namespace ${ns} to encrypt and authenticate this connection`,
    command: `ambit enroll ns/${ns}`,
  }));
}

function admits(field: string, conn: PolicyConn): string | null {
  const identity: SpiffeId | null = conn.identity;
  switch (field) {
    case "principals":
      return identity === null ? null : `add principal ${principalOf(identity)}`;
    case "namespaces":
      return identity === null ? null : `add namespace ${spiffeParts(identity).namespace}`;
    case "serviceAccounts": {
      if (identity === null) return null;
      const { namespace, serviceAccount } = spiffeParts(identity);
      return `add service account ${namespace}/${serviceAccount}`;
    }
    case "sourceIps":
      return `add source ${conn.sourceIp}`;
    case "destinationIps":
      return `add destination ${conn.destinationIp}`;
    case "destinationPorts":
      return `add port ${conn.destinationPort}`;
    default:
      return null;
  }
}

function namesOf(policies: readonly Authorization[]): string {
  return policies.map((p) => `AuthorizationPolicy ${p.key}`).join(" or ");
}

// May this node proxy have a certificate of another identity? Only for pods of its own node.
import { spiffeParts, tryParseSpiffeId, type SpiffeId } from "#lib/net/spiffe.ts";
import type { AuthenticatedCaller } from "../authenticate.ts";
import type { PodRecord } from "./pod-index.ts";

export interface NodeAuthorizerOptions {
  /** `namespace/serviceAccount` of the node proxies; empty refuses everybody. */
  readonly trustedAccounts: ReadonlySet<string>;
  readonly clusterId: string;
  /** The mesh's own: an identity of another one is never issued. */
  readonly trustDomain: () => string;
  readonly pods: {
    pod(namespace: string, name: string): PodRecord | null;
    runsOn(node: string, namespace: string, serviceAccount: string): boolean;
  };
}

/** Why an identity was refused, in the order of the checks. For the log; the caller is told nothing. */
export type Refusal =
  | "no-trusted-accounts"
  | "unknown-cluster"
  | "caller-not-trusted"
  | "malformed-identity"
  | "foreign-trust-domain"
  | "caller-pod-unknown"
  | "caller-pod-replaced"
  | "caller-pod-account-differs"
  | "caller-node-differs"
  | "identity-not-on-node";

export type NodeVerdict =
  | { readonly kind: "allow"; readonly identity: SpiffeId }
  /** `node`: where the caller's pod runs, if it is known. */
  | { readonly kind: "deny"; readonly why: Refusal; readonly node: string | null };

/** The checks of Istio's node authorizer (security/pkg/server/ca/node_auth.go), of the trust domain, and of the token's node. */
export function authorizeNode(
  options: NodeAuthorizerOptions,
  caller: AuthenticatedCaller,
  requested: string,
): NodeVerdict {
  const own = caller.podName === null ? null : options.pods.pod(caller.namespace, caller.podName);
  const deny = (why: Refusal): NodeVerdict => ({ kind: "deny", why, node: own?.node ?? null });
  if (options.trustedAccounts.size === 0) return deny("no-trusted-accounts");
  // The literal value: an absent header passes authentication, but not this.
  if (caller.clusterId !== options.clusterId) return deny("unknown-cluster");
  if (!options.trustedAccounts.has(`${caller.namespace}/${caller.serviceAccount}`))
    return deny("caller-not-trusted");
  const identity = tryParseSpiffeId(requested);
  if (identity === null) return deny("malformed-identity");
  const { trustDomain, namespace, serviceAccount } = spiffeParts(identity);
  if (trustDomain !== options.trustDomain()) return deny("foreign-trust-domain");
  if (own === null) return deny("caller-pod-unknown");
  if (caller.podUid === null || own.uid !== caller.podUid) return deny("caller-pod-replaced");
  if (own.serviceAccount !== caller.serviceAccount) return deny("caller-pod-account-differs");
  if (caller.nodeName != null && caller.nodeName !== own.node) return deny("caller-node-differs");
  if (!options.pods.runsOn(own.node, namespace, serviceAccount))
    return deny("identity-not-on-node");
  return { kind: "allow", identity };
}

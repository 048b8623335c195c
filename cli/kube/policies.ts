// Which policies apply to a pod, and what of them a ztunnel enforces. Source: istiod's translation of policies.
import type { KubeObject } from "#lib/kube/cluster.ts";
import { selects } from "#lib/kube/labels.ts";
import type {
  AuthorizationPolicy,
  AuthorizationRule,
  MutualTlsMode,
  PeerAuthentication,
  Pod,
} from "#lib/kube/objects.ts";

export type Action = "ALLOW" | "DENY" | "AUDIT" | "CUSTOM";

export function actionOf(policy: AuthorizationPolicy): Action {
  const { action } = policy.spec ?? {};
  return action === "DENY" || action === "AUDIT" || action === "CUSTOM" ? action : "ALLOW";
}

export function hasTargets(policy: AuthorizationPolicy): boolean {
  const { targetRef, targetRefs } = policy.spec ?? {};
  return targetRef !== undefined || (targetRefs ?? []).length > 0;
}

/** Enforced by the ztunnel of `pod`: no targetRefs, in the pod's or the root namespace, and selecting it. */
export function selectsPod(
  policy: AuthorizationPolicy | PeerAuthentication,
  pod: Pod,
  rootNamespace: string,
): boolean {
  const { namespace } = policy.metadata;
  if (namespace !== pod.metadata.namespace && namespace !== rootNamespace) return false;
  if ("targetRefs" in (policy.spec ?? {}) || "targetRef" in (policy.spec ?? {})) return false;
  const labels = policy.spec?.selector?.matchLabels;
  return labels === undefined || selects(labels, pod.metadata.labels);
}

const L7_OPERATION = ["hosts", "notHosts", "methods", "notMethods", "paths", "notPaths"] as const;
const L7_SOURCE = [
  "requestPrincipals",
  "notRequestPrincipals",
  "remoteIpBlocks",
  "notRemoteIpBlocks",
] as const;

/** The fields of `rule` that need HTTP, which a ztunnel does not see. */
export function l7Fields(rule: AuthorizationRule): readonly string[] {
  const found = new Set<string>();
  for (const { operation } of rule.to ?? [])
    for (const f of L7_OPERATION)
      if ((operation as Record<string, unknown> | undefined)?.[f] !== undefined) found.add(f);
  for (const { source } of rule.from ?? [])
    for (const f of L7_SOURCE)
      if ((source as Record<string, unknown> | undefined)?.[f] !== undefined) found.add(f);
  for (const { key } of rule.when ?? []) if (key.startsWith("request.")) found.add(key);
  return [...found];
}

/** True when some rule of an ALLOW policy may let `principal` (`td/ns/x/sa/y`) through, other fields aside. */
export function mayAllow(policy: AuthorizationPolicy, principal: string): boolean {
  return (policy.spec?.rules ?? []).some((rule) => {
    const from = rule.from ?? [];
    return (
      from.length === 0 ||
      from.some(({ source }) => source !== undefined && sourceFits(source, principal))
    );
  });
}

type Source = NonNullable<NonNullable<AuthorizationRule["from"]>[number]["source"]>;

function sourceFits(source: Source, principal: string): boolean {
  const [, namespace = "", account = ""] = /\/ns\/([^/]+)\/sa\/(.+)$/.exec(principal) ?? [];
  const any = (patterns: readonly string[] | undefined, value: string): boolean =>
    patterns === undefined || patterns.some((p) => wildcard(p, value));
  const none = (patterns: readonly string[] | undefined, value: string): boolean =>
    patterns === undefined || !patterns.some((p) => wildcard(p, value));
  const accounts = source.serviceAccounts?.map((a) => (a.includes("/") ? a : `*/${a}`));
  return (
    any(source.principals, principal) &&
    none(source.notPrincipals, principal) &&
    any(source.namespaces, namespace) &&
    none(source.notNamespaces, namespace) &&
    any(accounts, `${namespace}/${account}`)
  );
}

/** `*`, `prefix*`, `*suffix` or exact. */
function wildcard(pattern: string, value: string): boolean {
  if (pattern === "*") return value !== "";
  if (pattern.startsWith("*")) return value.endsWith(pattern.slice(1));
  if (pattern.endsWith("*")) return value.startsWith(pattern.slice(0, -1));
  return pattern === value;
}

export interface MtlsMode {
  readonly mode: Exclude<MutualTlsMode, "UNSET">;
  /** What says so; `null` for the default. */
  readonly from: PeerAuthentication | null;
}

/** Narrowest first: the pod's own, its namespace's, the mesh's; the oldest where several are alike. */
export function mtlsOf(
  all: readonly PeerAuthentication[],
  pod: Pick<Pod, "metadata">,
  rootNamespace: string,
): MtlsMode {
  const home = pod.metadata.namespace;
  const within = (namespace: string | undefined) =>
    all.filter((p) => p.metadata.namespace === namespace).toSorted(byAge);
  const labels = (p: PeerAuthentication) => p.spec?.selector?.matchLabels;
  const levels = [
    within(home).filter((p) => {
      const wanted = labels(p);
      return wanted !== undefined && selects(wanted, pod.metadata.labels);
    }),
    within(home).filter((p) => labels(p) === undefined),
    within(rootNamespace).filter((p) => labels(p) === undefined),
  ];
  for (const [policy] of levels) {
    const mode = policy?.spec?.mtls?.mode ?? "UNSET";
    if (policy !== undefined && mode !== "UNSET") return { mode, from: policy };
  }
  return { mode: "PERMISSIVE", from: null };
}

function byAge(a: KubeObject, b: KubeObject): number {
  return (a.metadata.creationTimestamp ?? "").localeCompare(b.metadata.creationTimestamp ?? "");
}

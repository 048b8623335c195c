// Which NetworkPolicies keep mesh traffic from a pod. Between pods of the mesh everything travels to one
// port, HBONE's; a policy written for the application's ports lets a connection in without the mesh and
// refuses the same connection with it. Rules for addresses outside the cluster and for DNS are left alone:
// such traffic is not HBONE. Pure: policies and a pod in, findings out.
// Upstream: Kubernetes `networking.k8s.io/v1` NetworkPolicy, policies add up and never deny.
import { isDeepStrictEqual } from "node:util";
import { PORT } from "#lib/net/ports.ts";
import type { NetworkPolicy, NetworkPolicyPort, NetworkPolicyRule } from "./installed-objects.ts";
import { compileLabelSelector } from "./labels.ts";
import type { Pod } from "./objects.ts";

const DNS_PORT = 53;

export type Direction = "ingress" | "egress";

export interface PolicyFinding {
  readonly direction: Direction;
  readonly kind: /** Some traffic is let through, but mesh traffic of the same peers is not. */
    | "mesh port refused"
    /** Policies select the pod and nothing at all is let through. */
    | "everything refused";
  /** Names of the policies that have to change, sorted; all of the pod's namespace. */
  readonly policies: readonly string[];
  /** For people: what to add, and where. */
  readonly text: string;
}

/** @param policies  those of the pod's namespace; others are passed over */
export function policyFindings(
  policies: readonly NetworkPolicy[],
  pod: Pick<Pod, "metadata" | "spec">,
): readonly PolicyFinding[] {
  const own = policies.filter(
    (policy) =>
      policy.metadata.namespace === pod.metadata.namespace &&
      selects(policy, pod.metadata.labels ?? {}),
  );
  return (["ingress", "egress"] as const).flatMap((direction) => {
    const finding = findingOf(own, direction, pod);
    return finding === null ? [] : [finding];
  });
}

interface OwnedRule {
  readonly policy: string;
  readonly rule: NetworkPolicyRule;
}

function findingOf(
  policies: readonly NetworkPolicy[],
  direction: Direction,
  pod: Pick<Pod, "metadata" | "spec">,
): PolicyFinding | null {
  const isolating = policies.filter((policy) => typesOf(policy).includes(direction));
  if (isolating.length === 0) return null;
  const rules: OwnedRule[] = isolating.flatMap((policy) =>
    (policy.spec?.[direction] ?? []).map((rule) => ({ policy: policy.metadata.name, rule })),
  );
  const allNames = isolating.map((policy) => policy.metadata.name).sort();
  const name = `${pod.metadata.namespace ?? "default"}/${pod.metadata.name}`;
  if (rules.every(({ rule }) => isDnsOnly(rule)))
    return {
      direction,
      kind: "everything refused",
      policies: allNames,
      text: `NetworkPolicy ${allNames.join(", ")} lets no ${direction} of pod ${name} through${rules.length === 0 ? "" : " except DNS"}: HBONE (TCP ${PORT.hbone}) is refused with the rest`,
    };
  const opening = rules.filter(({ rule }) => admitsMeshPort(rule, direction, pod));
  const closed = rules.filter(
    ({ rule }) =>
      admitsSomeTcp(rule) &&
      !isDnsOnly(rule) &&
      concernsPods(rule, direction) &&
      !admitsMeshPort(rule, direction, pod) &&
      // another rule may let the same peers reach the mesh port
      !opening.some((other) => coversPeers(other.rule, rule, direction)),
  );
  if (closed.length === 0) return null;
  const names = [...new Set(closed.map(({ policy }) => policy))].sort();
  return {
    direction,
    kind: "mesh port refused",
    policies: names,
    text: `NetworkPolicy ${names.join(", ")} lets ${direction} of pod ${name} through on other ports but not on TCP ${PORT.hbone}, which all mesh traffic uses: add a port ${PORT.hbone} to its ${direction} rules`,
  };
}

/** Egress counts by default only where the policy has such rules. */
function typesOf({ spec = {} }: NetworkPolicy): readonly Direction[] {
  if (spec.policyTypes !== undefined && spec.policyTypes.length > 0)
    return spec.policyTypes.map((type) => (type === "Egress" ? "egress" : "ingress"));
  return (spec.egress ?? []).length > 0 ? ["ingress", "egress"] : ["ingress"];
}

function selects({ spec }: NetworkPolicy, labels: Readonly<Record<string, string>>): boolean {
  try {
    return compileLabelSelector(spec?.podSelector ?? {})(labels);
  } catch {
    return false; // a selector no API server would store
  }
}

function admitsMeshPort(
  { ports }: NetworkPolicyRule,
  direction: Direction,
  pod: Pick<Pod, "spec">,
): boolean {
  if (ports === undefined || ports.length === 0) return true;
  return ports.some((port) => isTcp(port) && includesMeshPort(port, direction, pod));
}

function includesMeshPort(
  { port, endPort }: NetworkPolicyPort,
  direction: Direction,
  pod: Pick<Pod, "spec">,
): boolean {
  if (port === undefined) return true;
  if (typeof port === "number")
    return endPort === undefined
      ? port === PORT.hbone
      : port <= PORT.hbone && PORT.hbone <= endPort;
  // a name is looked up in the pod that is reached: for egress that is any pod
  return (
    direction === "ingress" &&
    (pod.spec?.containers ?? []).some((container) =>
      (container.ports ?? []).some((p) => p.name === port && p.containerPort === PORT.hbone),
    )
  );
}

function admitsSomeTcp({ ports }: NetworkPolicyRule): boolean {
  return ports === undefined || ports.length === 0 || ports.some(isTcp);
}

function isDnsOnly({ ports }: NetworkPolicyRule): boolean {
  return ports !== undefined && ports.length > 0 && ports.every(({ port }) => port === DNS_PORT);
}

/** Blocks of addresses mean the world outside, which does not speak HBONE. */
function concernsPods(rule: NetworkPolicyRule, direction: Direction): boolean {
  const peers = peersOf(rule, direction);
  return peers.length === 0 || peers.some((peer) => !isBlock(peer) || isEveryone(peer));
}

function isTcp({ protocol = "TCP" }: NetworkPolicyPort): boolean {
  return protocol === "TCP";
}

/** Whether every peer of `rule` is one of `other`'s, as far as equal peers tell. */
function coversPeers(
  other: NetworkPolicyRule,
  rule: NetworkPolicyRule,
  direction: Direction,
): boolean {
  const [theirs, ours] = [peersOf(other, direction), peersOf(rule, direction)];
  if (theirs.length === 0 || theirs.some(isEveryone)) return true;
  if (ours.length === 0) return false;
  return ours
    .filter((peer) => !isBlock(peer) || isEveryone(peer))
    .every((peer) => theirs.some((p) => isDeepStrictEqual(p, peer)));
}

function peersOf(rule: NetworkPolicyRule, direction: Direction): readonly unknown[] {
  return (direction === "ingress" ? rule.from : rule.to) ?? [];
}

/** Every pod of every namespace: mesh traffic comes from pods. */
function isEveryone(peer: unknown): boolean {
  const { podSelector, namespaceSelector, ipBlock } = (peer ?? {}) as Record<string, unknown>;
  if (ipBlock !== undefined) return isDeepStrictEqual(ipBlock, { cidr: "0.0.0.0/0" });
  return isEmpty(namespaceSelector) && (podSelector === undefined || isEmpty(podSelector));
}

function isBlock(peer: unknown): boolean {
  return (peer as { readonly ipBlock?: unknown } | null)?.ipBlock !== undefined;
}

function isEmpty(selector: unknown): boolean {
  return typeof selector === "object" && selector !== null && Object.keys(selector).length === 0;
}

// Which pods belong to the mesh. Pure: labels in, a wish with its reason out. The agent and the plugin
// ask the same function, so that they cannot disagree.
import type { Namespace, Pod } from "#lib/kube/objects.ts";
import type { EnrolmentSelector } from "./selectors.ts";

export interface EnrolmentRules {
  readonly selectors: readonly EnrolmentSelector[];
  readonly excludeNamespaces: ReadonlySet<string>;
}

export type Wish =
  | { readonly kind: "enrol" }
  | {
      readonly kind: "leave out";
      readonly why: "host network" | "sidecar" | "excluded namespace" | "not selected";
    }
  /** The pod has ended; its namespace goes by itself. */
  | { readonly kind: "ended" };

const SIDECAR_STATUS = "sidecar.istio.io/status";
const MIRROR = "kubernetes.io/config.mirror";

/** @param namespace  `null` when the cluster knows none of that name: no label of it can match */
export function wishFor(pod: Pod, namespace: Namespace | null, rules: EnrolmentRules): Wish {
  const { phase } = pod.status ?? {};
  if (phase === "Succeeded" || phase === "Failed") return { kind: "ended" };
  if (pod.spec?.hostNetwork === true) return { kind: "leave out", why: "host network" };
  if (pod.metadata.annotations?.[SIDECAR_STATUS] !== undefined)
    return { kind: "leave out", why: "sidecar" };
  if (rules.excludeNamespaces.has(pod.metadata.namespace ?? "default"))
    return { kind: "leave out", why: "excluded namespace" };
  const isSelected = rules.selectors.some(
    (s) =>
      s.matchesPod(pod.metadata.labels ?? {}) &&
      s.matchesNamespace(namespace?.metadata.labels ?? {}),
  );
  return isSelected ? { kind: "enrol" } : { kind: "leave out", why: "not selected" };
}

/**
 * Whether a runtime that names `uid` means `pod`. A static pod has one UID on its node and its mirror
 * another in the cluster, with the first in an annotation.
 */
export function isPodOf(pod: Pod, uid: string): boolean {
  return pod.metadata.uid === uid || pod.metadata.annotations?.[MIRROR] === uid;
}

/** The UID under which the node's runtime and kubelet know the pod, with dashes. */
export function uidOnNode(pod: Pod): string {
  const uid = pod.metadata.annotations?.[MIRROR] ?? pod.metadata.uid ?? "";
  const plain = /^([0-9a-f]{8})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{4})([0-9a-f]{12})$/.exec(uid);
  return plain === null ? uid : plain.slice(1).join("-");
}

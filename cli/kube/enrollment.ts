// Which pods of a namespace the mesh has captured, will capture, or cannot. Source: inpod's rules for enrolment.
import type { Namespace, Pod } from "#lib/kube/objects.ts";

export const MODE_LABEL = "istio.io/dataplane-mode";
/** Set by the CNI agent on a pod: `enabled` or `pending`. */
export const REDIRECTION_ANNOTATION = "ambient.istio.io/redirection";
const SIDECAR_ANNOTATION = "sidecar.istio.io/status";

export type Enrollment =
  | { readonly kind: "captured" }
  | { readonly kind: "pending" }
  | { readonly kind: "outside" }
  /** Can never be captured; `why` says so in two words. */
  | { readonly kind: "skipped"; readonly why: string };

/** Whether the labels ask for `pod` to be in the mesh: its own says `ambient`, or its namespace's does and its own not `none`. */
export function wantsMesh(pod: Pod, namespace: Pick<Namespace, "metadata"> | null): boolean {
  const own = pod.metadata.labels?.[MODE_LABEL];
  if (own === "ambient") return true;
  return own !== "none" && namespace?.metadata.labels?.[MODE_LABEL] === "ambient";
}

/** What `pod` is now, given that it `wants` to be in the mesh. */
export function enrollmentOf(pod: Pod, wants: boolean): Enrollment {
  const redirection = pod.metadata.annotations?.[REDIRECTION_ANNOTATION];
  if (pod.spec?.hostNetwork === true) return { kind: "skipped", why: "hostNetwork" };
  if (pod.metadata.annotations?.[SIDECAR_ANNOTATION] !== undefined)
    return { kind: "skipped", why: "sidecar" };
  if (pod.metadata.labels?.[MODE_LABEL] === "none") {
    return redirection === "enabled" ? { kind: "captured" } : { kind: "skipped", why: "opted out" };
  }
  if (redirection === "enabled") return { kind: "captured" };
  if (!wants) return { kind: "outside" };
  return pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed"
    ? { kind: "skipped", why: "finished" }
    : { kind: "pending" };
}

export interface Tally {
  readonly captured: readonly string[];
  readonly pending: readonly string[];
  readonly outside: readonly string[];
  readonly skipped: readonly { readonly name: string; readonly why: string }[];
}

export function tally(pods: readonly Pod[], namespace: Pick<Namespace, "metadata"> | null): Tally {
  const captured: string[] = [];
  const pending: string[] = [];
  const outside: string[] = [];
  const skipped: { name: string; why: string }[] = [];
  for (const pod of pods) {
    const name = pod.metadata.name;
    const state = enrollmentOf(pod, wantsMesh(pod, namespace));
    switch (state.kind) {
      case "captured":
        captured.push(name);
        break;
      case "pending":
        pending.push(name);
        break;
      case "outside":
        outside.push(name);
        break;
      case "skipped":
        skipped.push({ name, why: state.why });
        break;
      default:
        state satisfies never;
    }
  }
  return { captured, pending, outside, skipped };
}

/** `3 pods captured, 1 pending, 1 skipped: hostNetwork`. */
export function tallyText(t: Tally): string {
  const parts = [`${plural(t.captured.length, "pod")} captured`];
  if (t.pending.length > 0) parts.push(`${t.pending.length} pending`);
  if (t.skipped.length > 0) {
    const reasons = [...new Set(t.skipped.map((s) => s.why))].join(", ");
    parts.push(`${t.skipped.length} skipped: ${reasons}`);
  }
  return parts.join(", ");
}

function plural(n: number, word: string): string {
  return `${n} ${word}${n === 1 ? "" : "s"}`;
}

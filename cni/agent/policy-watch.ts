// Names NetworkPolicies that keep mesh traffic from pods of this node, before somebody has to search for
// a connection that only times out. Advice only: nothing waits for it and nothing fails by it.
import type { Cluster } from "#lib/kube/cluster.ts";
import type { NetworkPolicy } from "#lib/kube/installed-objects.ts";
import { policyFindings, type PolicyFinding } from "#lib/kube/network-policy.ts";
import { RESOURCES, type Pod } from "#lib/kube/objects.ts";
import type { Logger } from "#lib/obs/log.ts";

export interface PolicyWatchOptions {
  readonly cluster: Cluster;
  /** Pods of the mesh on this node. */
  readonly meshedPods: () => readonly Pod[];
  readonly log: Logger;
  /** Told the findings of all pods after each look. */
  readonly onFindings: (findings: readonly PolicyFinding[]) => void;
}

/** Changes come in flocks, and advice may be a moment late. */
const SETTLE_MS = 200;

export class PolicyWatch implements Disposable {
  readonly #o: PolicyWatchOptions;
  /** By namespace, then name. */
  readonly #policies = new Map<string, Map<string, NetworkPolicy>>();
  #findings = new Map<string, readonly PolicyFinding[]>();
  #timer: NodeJS.Timeout | null = null;
  #lastError: string | null = null;
  #isSynced = false;
  #isDisposed = false;

  constructor(options: PolicyWatchOptions) {
    this.#o = options;
  }

  /** Watches until `signal` aborts; without the right to, it says so and finds nothing. */
  run(signal: AbortSignal): Promise<void> {
    return this.#o.cluster.watch(
      RESOURCES.networkPolicies,
      {
        onEvents: (events) => {
          for (const { type, object } of events) {
            const { name, namespace = "default" } = object.metadata;
            const own = this.#policies.get(namespace) ?? new Map<string, NetworkPolicy>();
            if (type === "deleted") own.delete(name);
            else own.set(name, object);
            if (own.size === 0) this.#policies.delete(namespace);
            else this.#policies.set(namespace, own);
          }
          this.refreshSoon();
        },
        onSynced: () => {
          this.#isSynced = true;
          this.refreshSoon();
        },
        onError: (error) => this.#onError(error),
      },
      { signal },
    );
  }

  /** Pods or policies have changed. */
  refreshSoon(): void {
    if (!this.#isSynced || this.#isDisposed) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = null;
      this.#refresh();
    }, SETTLE_MS);
  }

  findingsOf(uid: string): readonly PolicyFinding[] {
    return this.#findings.get(uid) ?? [];
  }

  /** Without the right to look, once is enough to know. */
  #onError(error: Error): void {
    if (this.#lastError === error.message) return;
    this.#lastError = error.message;
    this.#o.log.warn({ error }, "cannot watch network policies");
  }

  #refresh(): void {
    const next = new Map<string, readonly PolicyFinding[]>();
    for (const pod of this.#o.meshedPods()) {
      const own = this.#policies.get(pod.metadata.namespace ?? "default");
      if (own === undefined) continue;
      const findings = policyFindings([...own.values()], pod);
      if (findings.length > 0) next.set(pod.metadata.uid ?? "", findings);
    }
    this.#tellNews(next);
    this.#findings = next;
    this.#o.onFindings([...next.values()].flat());
  }

  /** A finding is said once for as long as it stands. */
  #tellNews(next: ReadonlyMap<string, readonly PolicyFinding[]>): void {
    for (const [uid, findings] of next) {
      const known = new Set(this.findingsOf(uid).map((finding) => finding.text));
      for (const { direction, kind, policies, text } of findings) {
        if (known.has(text)) continue;
        // an intended wall is worth a line, not a warning
        const level = kind === "mesh port refused" ? "warn" : "info";
        this.#o.log[level](
          { uid, direction, policies, text },
          "a NetworkPolicy refuses mesh traffic",
        );
      }
    }
    for (const uid of this.#findings.keys())
      if (!next.has(uid))
        this.#o.log.info({ uid }, "no NetworkPolicy refuses mesh traffic any more");
  }

  [Symbol.dispose](): void {
    this.#isDisposed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
  }
}

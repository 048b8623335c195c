// What an explanation collects on its way: hops, stages, notes, and the verdict that closes it.
import type { Explanation, ExplanationVerdict, Fix, Hop } from "./explanation.ts";
import type { NearestMiss } from "./rbac-evidence.ts";
import type { Stage, StageId, StageObject } from "./stage.ts";
import { identityOf, type Workload } from "./workload.ts";

export class Trail {
  readonly stages: Stage[] = [];
  readonly notes: string[] = [];
  nearestMiss: NearestMiss | null = null;
  readonly #path: Hop[] = [];

  hop(kind: Hop["kind"], w: Workload, protocol: Hop["protocol"], address: string): void {
    const identity = w.protocol === "HBONE" ? identityOf(w) : null;
    const { namespace, name, node } = w;
    this.#add({ kind, namespace, name, node, protocol, identity, address });
  }

  /** Somewhere the mesh knows nothing of. */
  external(address: string): void {
    const nobody = { namespace: null, name: null, node: null, identity: null };
    this.#add({ kind: "external", ...nobody, protocol: "TCP", address });
  }

  stage(id: StageId, result: Stage["result"], detail: string, ...objects: StageObject[]): void {
    this.stages.push({ id, result, detail, objects });
  }

  end(
    verdict: ExplanationVerdict,
    confidence: Explanation["confidence"],
    fixes: readonly Fix[],
  ): Explanation {
    return {
      apiVersion: "ambit/v1",
      kind: "Explanation",
      verdict,
      deniedAt: this.stages.findLast((s) => s.result === "stop")?.id ?? null,
      path: this.#path,
      stages: this.stages,
      nearestMiss: this.nearestMiss,
      notes: this.notes,
      fixes,
      confidence,
    };
  }

  #add(hop: Omit<Hop, "hop">): void {
    this.#path.push({ hop: this.#path.length + 1, ...hop });
  }
}

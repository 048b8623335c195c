// Which identities this node needs certificates for, followed as its workloads come and go.
import type { SpiffeId } from "#lib/net/spiffe.ts";
import { identityOf, type Workload } from "#lib/model/workload.ts";

export interface IdentityChange {
  readonly appeared: readonly SpiffeId[];
  readonly gone: readonly SpiffeId[];
}

/** Remembers the last answer; looks at a node's workloads only, a few hundred at most. */
export class LocalIdentities {
  #wanted: ReadonlySet<SpiffeId> = new Set();
  /** All local identities, whether fetched ahead or not: one is forgotten when its last workload goes. */
  #present: ReadonlySet<SpiffeId> = new Set();

  /** @param local  the workloads of this node as they are now */
  update(local: Iterable<Workload>): IdentityChange {
    const wanted = new Set<SpiffeId>();
    const present = new Set<SpiffeId>();
    for (const w of local) {
      const id = identityOf(w);
      present.add(id);
      if (w.protocol === "HBONE" || w.nativeTunnel) wanted.add(id);
    }
    const appeared = [...wanted].filter((id) => !this.#wanted.has(id));
    const gone = [...this.#present].filter((id) => !present.has(id));
    this.#wanted = wanted;
    this.#present = present;
    return { appeared, gone };
  }
}

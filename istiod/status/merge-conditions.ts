// One writer's conditions among those of others, as Kubernetes keeps them (`meta.SetStatusCondition`).
import type { Condition } from "#lib/kube/objects.ts";

/**
 * @param live   as the object has them; conditions of other types stay, in their places
 * @param wanted all that the writer has to say: of `owned`, others go
 * @param now    RFC 3339; `lastTransitionTime` of a condition whose status changes
 * @returns      `null` when there is nothing to write
 */
export function mergeConditions(
  live: readonly Condition[],
  wanted: readonly Condition[],
  owned: ReadonlySet<string>,
  now: string,
): readonly Condition[] | null {
  const missing = new Map(wanted.map((c) => [c.type, c]));
  const merged: Condition[] = [];
  let isChanged = false;
  for (const old of live) {
    const next = missing.get(old.type);
    if (!owned.has(old.type)) merged.push(old);
    else if (next !== undefined && isSame(old, next)) merged.push(old);
    else {
      isChanged = true;
      if (next !== undefined) merged.push(dated(next, old, now));
    }
    missing.delete(old.type);
  }
  for (const next of missing.values()) merged.push(dated(next, undefined, now));
  return isChanged || missing.size > 0 ? merged : null;
}

function isSame(a: Condition, b: Condition): boolean {
  return (
    a.status === b.status &&
    a.reason === b.reason &&
    a.message === b.message &&
    a.observedGeneration === b.observedGeneration
  );
}

function dated(next: Condition, old: Condition | undefined, now: string): Condition {
  const since = old?.status === next.status ? old.lastTransitionTime : undefined;
  return { ...next, lastTransitionTime: since ?? now };
}

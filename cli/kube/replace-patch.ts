// The merge patch (RFC 7386) that makes an object what a file says: fields the file left out are removed.
import type { KubeObject } from "#lib/kube/cluster.ts";

type Plain = Readonly<Record<string, unknown>>;

/** Labels and annotations merge, since others set theirs too; status is not ours. `null` when nothing changes. */
export function replacePatch(current: KubeObject, wanted: KubeObject): Plain | null {
  const patch: Record<string, unknown> = {};
  const from = current as unknown as Plain;
  const to = wanted as unknown as Plain;
  for (const key of new Set([...Object.keys(from), ...Object.keys(to)])) {
    if (key === "status" || key === "apiVersion" || key === "kind") continue;
    const change =
      key === "metadata"
        ? additions(from[key], pickMetadata(to[key]))
        : difference(from[key], to[key]);
    if (change !== UNCHANGED) patch[key] = change;
  }
  return Object.keys(patch).length === 0 ? null : patch;
}

const UNCHANGED = Symbol("unchanged");

function pickMetadata(metadata: unknown): Plain {
  const { labels, annotations, ownerReferences } = metadata as Plain;
  return Object.fromEntries(
    Object.entries({ labels, annotations, ownerReferences }).filter(([, v]) => v !== undefined),
  );
}

/** Only what `to` has and `from` has not, or has otherwise. */
function additions(from: unknown, to: unknown): unknown {
  if (!isPlain(from) || !isPlain(to)) return same(from, to) ? UNCHANGED : to;
  const patch: Record<string, unknown> = {};
  for (const [key, value] of Object.entries(to)) {
    const change = additions(from[key], value);
    if (change !== UNCHANGED) patch[key] = change;
  }
  return Object.keys(patch).length === 0 ? UNCHANGED : patch;
}

/** What turns `from` into `to`, removals included. */
function difference(from: unknown, to: unknown): unknown {
  if (to === undefined) return from === undefined ? UNCHANGED : null;
  if (!isPlain(from) || !isPlain(to)) return same(from, to) ? UNCHANGED : to;
  const patch: Record<string, unknown> = {};
  for (const key of new Set([...Object.keys(from), ...Object.keys(to)])) {
    const change = difference(from[key], to[key]);
    if (change !== UNCHANGED) patch[key] = change;
  }
  return Object.keys(patch).length === 0 ? UNCHANGED : patch;
}

function isPlain(value: unknown): value is Plain {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function same(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (Array.isArray(a) && Array.isArray(b))
    return a.length === b.length && a.every((v, i) => same(v, b[i]));
  if (!isPlain(a) || !isPlain(b)) return false;
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((k) => k in b && same(a[k], b[k]));
}

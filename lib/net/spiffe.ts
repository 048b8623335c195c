// SPIFFE identities of workloads: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
import type { Brand } from "../base/brand.ts";

/** The full URI, scheme included. Only `parseSpiffeId` and `spiffeId` make one. Compared byte for byte. */
export type SpiffeId = Brand<string, "SpiffeId">;

export interface SpiffeParts {
  readonly trustDomain: string;
  readonly namespace: string;
  readonly serviceAccount: string;
}

export class SpiffeError extends Error {
  override readonly name = "SpiffeError";
}

const SCHEME = "spiffe://";

/** @throws {SpiffeError} unless exactly five slash-separated pieces follow the scheme */
export function parseSpiffeId(text: string): SpiffeId {
  if (trySplitSpiffe(text) === null)
    throw new SpiffeError(
      `Not a workload identity: ${JSON.stringify(text)}, expected spiffe://<trust domain>/ns/<namespace>/sa/<service account>`,
    );
  return text as SpiffeId;
}

export function tryParseSpiffeId(text: string): SpiffeId | null {
  return trySplitSpiffe(text) === null ? null : (text as SpiffeId);
}

export function spiffeId(parts: SpiffeParts): SpiffeId {
  return `${SCHEME}${parts.trustDomain}/ns/${parts.namespace}/sa/${parts.serviceAccount}` as SpiffeId;
}

export function spiffeParts(id: SpiffeId): SpiffeParts {
  const parts = trySplitSpiffe(id);
  if (parts === null) throw new SpiffeError(`Not a workload identity: ${id}`);
  return parts;
}

/** The form policies compare with: the identity without its scheme. */
export function principalOf(id: SpiffeId): string {
  return id.slice(SCHEME.length);
}

function trySplitSpiffe(text: string): SpiffeParts | null {
  if (!text.startsWith(SCHEME)) return null;
  const p = text.slice(SCHEME.length).split("/");
  if (p.length !== 5 || p[1] !== "ns" || p[3] !== "sa") return null;
  return { trustDomain: p[0] ?? "", namespace: p[2] ?? "", serviceAccount: p[4] ?? "" };
}

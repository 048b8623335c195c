// One identity's certificate: the states it may be in and the inputs that move it. No clock, no calls.
import type { CertificateMaterial } from "./certificate-material.ts";

/**
 * - `initializing`: the first fetch has not ended
 * - `available`: a certificate that is valid is in use, whatever the last renewal said
 * - `unavailable`: none is valid, and the last fetch failed
 */
export type CertificateState = "initializing" | "available" | "unavailable";

/** Who waits: a connection, the prefetch, nobody (a renewal). Lower is served first. */
export const PRIORITY = { realTime: 0, warmup: 1, background: 2 } as const;
export type Priority = (typeof PRIORITY)[keyof typeof PRIORITY];

export interface CertificateView {
  readonly identity: string;
  readonly state: CertificateState;
  readonly material: CertificateMaterial | null;
  /** Why the last fetch failed; null after a success. */
  readonly error: string | null;
}

/** Share of the lifetime that has passed when a certificate is renewed, and how far that is spread. */
const RENEW_AT = 0.5;
const RENEW_SPREAD = 0.05;
/** A certificate whose dates make no sense is used and renewed, but not in a busy loop. */
const MIN_RENEW_MS = 1_000;

/**
 * When to renew: half of the lifetime, spread by ±5 % of it, so that pods started together do not
 * renew together for ever after.
 * @param random  uniform in [0, 1)
 */
export function renewalTime(
  dates: Pick<CertificateMaterial, "notBefore" | "notAfter">,
  now: number,
  random: number,
): number {
  const lifetime = dates.notAfter - dates.notBefore;
  if (!(lifetime > 0)) return now + MIN_RENEW_MS;
  const share = RENEW_AT + RENEW_SPREAD * (2 * random - 1);
  return Math.max(now + MIN_RENEW_MS, dates.notBefore + lifetime * share);
}

export class CertificateEntry {
  readonly identity: string;
  /** The certificate in use; null while none is valid. */
  material: CertificateMaterial | null = null;
  state: CertificateState = "initializing";
  error: string | null = null;
  /** Next fetch, ms since the epoch; null while one is queued or under way. */
  dueAt: number | null = null;
  /** Set while queued. */
  queued: { priority: Priority; readonly order: number } | null = null;
  /** Set while a call is under way; aborting discards its result. */
  call: AbortController | null = null;

  constructor(identity: string) {
    this.identity = identity;
  }

  /** available ⇒ unavailable, once the certificate has run out and its renewal has not worked. */
  expire(now: number): boolean {
    if (this.material === null || now < this.material.notAfter) return false;
    this.material = null;
    this.state = "unavailable";
    this.error ??= "The certificate expired before it was renewed";
    return true;
  }

  view(): CertificateView {
    const { identity, state, material, error } = this;
    return { identity, state, material, error };
  }
}

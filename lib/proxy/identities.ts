// Certificates of this worker as ready TLS contexts, one pair per identity. Who needs one that is not
// there asks the main thread once and waits; the answer, good or bad, goes to all who wait.
import { TlsContext, TlsError } from "#lib/sys/tls.ts";
import type { CertificateMaterial } from "#lib/pki/certificate-material.ts";

export interface IdentityContexts {
  readonly client: TlsContext;
  readonly server: TlsContext;
}

/** The contexts, or why there are none. */
export type WhenReady = (contexts: IdentityContexts | null, reason: string) => void;

/** A failure is remembered until the main thread says something new. */
type Entry =
  | { readonly kind: "ready"; readonly contexts: IdentityContexts; readonly notAfter: number }
  | { readonly kind: "failed"; readonly reason: string }
  | { readonly kind: "waiting"; readonly waiters: WhenReady[] };

/** Owns the contexts. */
export class Identities {
  readonly #entries = new Map<string, Entry>();
  readonly #request: (identity: string) => void;

  /** @param request asks the main thread for a certificate */
  constructor(request: (identity: string) => void) {
    this.#request = request;
  }

  /** Calls back at once when the certificate is here, otherwise when it comes or fails. */
  use(identity: string, nowMs: number, then: WhenReady): void {
    const entry = this.#entries.get(identity);
    if (entry?.kind === "ready" && entry.notAfter > nowMs) return then(entry.contexts, "");
    if (entry?.kind === "waiting") {
      entry.waiters.push(then);
      return;
    }
    if (entry?.kind === "failed") then(null, entry.reason);
    else this.#entries.set(identity, { kind: "waiting", waiters: [then] });
    this.#request(identity);
  }

  set(material: CertificateMaterial): void {
    try {
      const contexts = {
        client: new TlsContext(material, "client"),
        server: new TlsContext(material, "server"),
      };
      const entry: Entry = { kind: "ready", contexts, notAfter: material.notAfter };
      this.#replace(material.identity, entry, contexts, "");
    } catch (error) {
      if (!(error instanceof TlsError)) throw error;
      this.fail(material.identity, error.message);
    }
  }

  /** A certificate that is still valid is never given up for an error. */
  fail(identity: string, reason: string): void {
    if (this.#entries.get(identity)?.kind === "ready") return;
    this.#replace(identity, { kind: "failed", reason }, null, reason);
  }

  #replace(
    identity: string,
    entry: Entry,
    contexts: IdentityContexts | null,
    reason: string,
  ): void {
    const before = this.#entries.get(identity);
    this.#entries.set(identity, entry);
    if (before?.kind === "ready") {
      before.contexts.client[Symbol.dispose](); // running sessions hold their own reference
      before.contexts.server[Symbol.dispose]();
    }
    if (before?.kind === "waiting") for (const then of before.waiters) then(contexts, reason);
  }
}

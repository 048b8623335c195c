// Whether a client has everything it asked for: each of its types was acknowledged once.

export class FirstSync {
  readonly #missing: Set<string>;
  readonly #done = Promise.withResolvers<void>();

  constructor(...typeUrls: readonly string[]) {
    this.#missing = new Set(typeUrls);
  }

  /** Resolves once all types were acknowledged. */
  get done(): Promise<void> {
    return this.#done.promise;
  }

  /** A NACK counts only once it is put right. */
  answered({ typeUrl, acked }: { readonly typeUrl: string; readonly acked: boolean }): void {
    if (!acked) return;
    this.#missing.delete(typeUrl);
    if (this.#missing.size === 0) this.#done.resolve();
  }
}

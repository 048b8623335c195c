// The self-signed root: made once, kept in a store, and renewed with the same key before it ends.
import { makeCaBundle, type CaBundle } from "#lib/pki/ca-bundle.ts";
import type { Certificate } from "#lib/pki/certificate.ts";
import { issueCa, type Signer } from "#lib/pki/issue.ts";
import { generateRsaKey, type KeyPair } from "#lib/pki/keys.ts";
import { parseTrustBundle } from "#lib/pki/trust-bundle.ts";
import type { RootStore } from "./root-store.ts";

export interface SelfSignedOptions {
  /** Used by this one only. */
  readonly store: RootStore;
  /** Subject `O=`. */
  readonly trustDomain: string;
  /** PEM of further roots to hand out beside our own. */
  readonly extraRootPem: string;
  readonly now: () => number;
}

const ROOT_LIFE_MS = 3650 * 86_400_000;
/** A root with less than this share of its life left is renewed, with the same key. */
const GRACE_RATIO = 0.2;

export class SelfSignedCa {
  readonly #options: SelfSignedOptions;
  /** In force: kept again, should the store lose it. */
  #current: Signer | null = null;

  constructor(options: SelfSignedOptions) {
    this.#options = options;
  }

  /**
   * The root as it is now: the one kept, perhaps another replica's newer one; a renewal with the same key
   * when little life is left, so that leaves issued before keep verifying; or the first. Of several
   * processes doing this at once, one wins and all use its root.
   * @throws {IstiodError | KubeError}
   */
  async load(): Promise<CaBundle> {
    const { store } = this.#options;
    const kept = await store.read();
    if (kept !== null) return this.#renewed(kept);
    return this.#bundle(await store.keepFirst(this.#current ?? (await this.#make())));
  }

  async #make(): Promise<Signer> {
    const keys = await generateRsaKey();
    return { certificate: await this.#issue(keys), key: keys.privateKey };
  }

  async #renewed({ certificate, key }: Signer): Promise<CaBundle> {
    const life = certificate.notAfterMs - certificate.notBeforeMs;
    const left = certificate.notAfterMs - this.#options.now();
    if (left > life * GRACE_RATIO) return this.#bundle({ certificate, key });
    const keys = { publicKey: certificate.x509.publicKey, privateKey: key };
    const next = { certificate: await this.#issue(keys), key };
    return this.#bundle(await this.#options.store.replace(next));
  }

  async #issue(keys: KeyPair): Promise<Certificate> {
    const nowMs = this.#options.now();
    const { trustDomain: organization } = this.#options;
    return issueCa(null, {
      organization,
      keys,
      notBeforeMs: nowMs,
      notAfterMs: nowMs + ROOT_LIFE_MS,
    });
  }

  #bundle(signer: Signer): CaBundle {
    const extra = parseTrustBundle(this.#options.extraRootPem).roots;
    const roots = [signer.certificate, ...extra];
    const bundle = makeCaBundle(signer.certificate, signer.key, [], roots, this.#options.now());
    this.#current = signer;
    return bundle;
  }
}

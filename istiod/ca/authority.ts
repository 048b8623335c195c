// The certificate authority in force: signs leaves, makes istiod's own serving certificate, changes keys.
import type { KeyObject } from "node:crypto";
import type { ServingPair } from "#lib/grpc/server.ts";
import { certificateChain, isRootSubset, type CaBundle } from "#lib/pki/ca-bundle.ts";
import { issueLeaf } from "#lib/pki/issue.ts";
import { curveOf, generateEcKey, generateRsaKey } from "#lib/pki/keys.ts";
import { sanOf } from "#lib/pki/san.ts";
import { IstiodError } from "../errors.ts";

export interface AuthorityOptions {
  /** Life of a leaf when the request names none. */
  readonly defaultTtlMs: number;
  /** A longer request is refused, not shortened. */
  readonly maxTtlMs: number;
  /** Accept a plugged-in CA with other roots, if one bundle contains the other. */
  readonly allowRootChange: boolean;
  readonly now: () => number;
}

export interface LeafOrder {
  readonly publicKey: KeyObject;
  readonly identities: readonly string[];
  /** 0 or less: the default. */
  readonly ttlMs: number;
  /** Repeat the first identity as common name. */
  readonly withCommonName: boolean;
}

/** Clocks of proxies may be this far behind. */
const BACKDATE_MS = 2 * 60_000;
const SERVING_LIFE_MS = 3650 * 86_400_000;
/** X.520 upper bound of a common name. */
const MAX_COMMON_NAME = 64;

export class CertificateAuthority {
  readonly #options: AuthorityOptions;
  readonly #defaultTtlMs: number;
  #bundle: CaBundle;

  constructor(bundle: CaBundle, options: AuthorityOptions) {
    this.#options = options;
    this.#bundle = bundle;
    // Fixed at start-up, as in Istio: lowered to the remaining life of the first chain certificate.
    const first = bundle.chain[0];
    this.#defaultTtlMs =
      first === undefined
        ? options.defaultTtlMs
        : Math.min(options.defaultTtlMs, first.notAfterMs - options.now());
  }

  get bundle(): CaBundle {
    return this.#bundle;
  }

  /** True when a request may ask for this life. */
  allowsTtl(ttlMs: number): boolean {
    return ttlMs <= this.#options.maxTtlMs;
  }

  /** @returns `cert_chain` of the answer. @throws {PkiError} */
  async issue(order: LeafOrder): Promise<string[]> {
    const bundle = this.#bundle;
    const nowMs = this.#options.now();
    const commonName = order.withCommonName ? order.identities[0] : undefined;
    const leaf = await issueLeaf(bundle.signer, {
      publicKey: order.publicKey,
      sans: order.identities.map(sanOf),
      notBeforeMs: nowMs - BACKDATE_MS,
      notAfterMs: nowMs + (order.ttlMs > 0 ? order.ttlMs : this.#defaultTtlMs),
      ...(commonName === undefined || commonName.length > MAX_COMMON_NAME ? {} : { commonName }),
    });
    return certificateChain(leaf, bundle);
  }

  /** A certificate for istiod itself, with a fresh key of the CA's kind. */
  async serving(names: readonly string[]): Promise<ServingPair> {
    const { signer, chain } = this.#bundle;
    const curve = curveOf(signer.key);
    const keys =
      signer.key.asymmetricKeyType === "rsa"
        ? await generateRsaKey()
        : await generateEcKey(curve === "P-384" ? "P-384" : "P-256");
    const nowMs = this.#options.now();
    const leaf = await issueLeaf(signer, {
      publicKey: keys.publicKey,
      sans: names.map(sanOf),
      notBeforeMs: nowMs - BACKDATE_MS,
      notAfterMs: nowMs + SERVING_LIFE_MS,
    });
    return {
      certChainPem: [leaf, ...chain].map((certificate) => certificate.pem).join(""),
      privateKeyPem: keys.privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
    };
  }

  /**
   * Puts another CA in force.
   * @returns false when nothing differs
   * @throws {IstiodError} `ROOT_CHANGED` when its roots are not the current ones and may not replace them
   */
  replace(next: CaBundle): boolean {
    const current = this.#bundle;
    const isSameSigner = next.signer.certificate.der.equals(current.signer.certificate.der);
    if (isSameSigner && next.rootPem === current.rootPem) return false;
    if (next.rootPem !== current.rootPem) {
      const isRenewal = next.signer.key.equals(current.signer.key);
      if (!isRenewal && !(this.#options.allowRootChange && isRootSubset(next, current)))
        throw new IstiodError(
          "ROOT_CHANGED",
          "The new CA has another root; distribute old and new roots together first (ISTIO_MULTIROOT_MESH=true)",
        );
    }
    this.#bundle = next;
    return true;
  }
}

/** DNS names of istiod's own certificate. Istio adds no `.svc.cluster.local` form. */
export function servingNames(options: {
  readonly namespace: string;
  readonly revision: string;
  readonly customHosts: readonly string[];
}): string[] {
  const hosts = ["istiod", "istiod-remote", "istio-pilot"];
  if (options.revision !== "" && options.revision !== "default")
    hosts.push(`istiod-${options.revision}`);
  return [
    ...new Set([
      ...hosts.map((host) => `${host}.${options.namespace}.svc`),
      ...options.customHosts,
    ]),
  ];
}

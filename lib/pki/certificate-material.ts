// A certificate with all that goes with it, as the proxies hold it and hand it between threads.

/** A workload's certificate as DER, ready for OpenSSL. */
export interface CertificateMaterial {
  readonly identity: string;
  readonly leaf: Uint8Array;
  /** Issuers, leaf side first; the root is not among them. */
  readonly chain: readonly Uint8Array[];
  /** PKCS#8. */
  readonly privateKey: Uint8Array;
  /** What peers' certificates must chain to. */
  readonly roots: readonly Uint8Array[];
  /** ms since the epoch. */
  readonly notBefore: number;
  readonly notAfter: number;
}

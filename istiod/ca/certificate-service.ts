// CreateCertificate: who asks, for whom, with which key. Statuses and texts are Istio's, since its clients log them.
import type { Metadata } from "@grpc/grpc-js";
import { GrpcError } from "#lib/grpc/errors.ts";
import { spiffeId } from "#lib/net/spiffe.ts";
import type { Logger } from "#lib/obs/log.ts";
import { parseCsr, type Csr } from "#lib/pki/csr.ts";
import type { IstioCertificateRequest, IstioCertificateResponse } from "#lib/wire/gen/ca.gen.ts";
import type { AuthenticatedCaller, Authenticator } from "../authenticate.ts";
import type { Metrics } from "../metrics.ts";
import type { CertificateAuthority } from "./authority.ts";
import { authorizeNode, type NodeAuthorizerOptions } from "./node-authorizer.ts";

export interface CertificateServiceOptions {
  readonly authenticator: Authenticator;
  readonly authority: CertificateAuthority;
  readonly nodes: NodeAuthorizerOptions;
  readonly metrics: Metrics;
  readonly log: Logger;
}

/** More at once are told to come back: each costs a signature on a thread of the pool. */
const MAX_IN_FLIGHT = 512;

export class CertificateService {
  readonly #options: CertificateServiceOptions;
  #inFlight = 0;

  constructor(options: CertificateServiceOptions) {
    this.#options = options;
  }

  /** @throws {GrpcError} */
  async createCertificate(
    request: IstioCertificateRequest,
    metadata: Metadata,
    peer: string,
  ): Promise<IstioCertificateResponse> {
    this.#options.metrics.csrCount.inc();
    if (this.#inFlight >= MAX_IN_FLIGHT)
      throw new GrpcError("RESOURCE_EXHAUSTED", "too many signing requests");
    this.#inFlight++;
    try {
      const identity = await this.#identity(request, metadata, peer);
      const certChain = await this.#sign(request, identity);
      this.#options.metrics.issued.inc();
      this.#options.log.debug({ identity, peer }, "certificate issued");
      return { certChain };
    } finally {
      this.#inFlight--;
    }
  }

  /** The identity to certify: the caller's own, or one it may have for a pod of its node. */
  async #identity(
    request: IstioCertificateRequest,
    metadata: Metadata,
    peer: string,
  ): Promise<string> {
    const { nodes, metrics, log } = this.#options;
    let caller: AuthenticatedCaller;
    try {
      caller = await this.#options.authenticator.authenticate(metadata, peer);
    } catch (error) {
      metrics.authenticationFailures.inc();
      throw error;
    }
    const { namespace, serviceAccount } = caller;
    const wanted: unknown = request.metadata?.["ImpersonatedIdentity"];
    if (typeof wanted !== "string" || wanted === "")
      return spiffeId({ trustDomain: nodes.trustDomain(), namespace, serviceAccount });
    const verdict = authorizeNode(nodes, caller, wanted);
    if (verdict.kind === "allow") return verdict.identity;
    metrics.authenticationFailures.inc();
    log.warn(
      {
        caller: `${namespace}/${serviceAccount}`,
        pod: caller.podName,
        node: verdict.node,
        wanted,
        why: verdict.why,
        peer,
      },
      "identity refused",
    );
    throw new GrpcError("UNAUTHENTICATED", "request impersonation authentication failure");
  }

  async #sign(request: IstioCertificateRequest, identity: string): Promise<string[]> {
    const { authority, metrics, log } = this.#options;
    const ttlMs = request.validityDuration * 1000;
    let csr: Csr;
    try {
      csr = parseCsr(request.csr);
    } catch (error) {
      metrics.csrErrors.inc();
      throw signingError("INVALID_ARGUMENT", error);
    }
    if (!authority.allowsTtl(ttlMs)) {
      metrics.signErrors.inc();
      const asked = new Error(`requested TTL ${request.validityDuration}s is above the maximum`);
      throw signingError("INVALID_ARGUMENT", asked);
    }
    try {
      const { publicKey, hasCommonName: withCommonName } = csr;
      return await authority.issue({ publicKey, identities: [identity], ttlMs, withCommonName });
    } catch (error) {
      metrics.signErrors.inc();
      log.error({ error, identity }, "cannot sign certificate");
      throw signingError("INTERNAL", error);
    }
  }
}

function signingError(code: "INVALID_ARGUMENT" | "INTERNAL", cause: unknown): GrpcError {
  const detail = cause instanceof Error ? cause.message : String(cause);
  return new GrpcError(code, `CSR signing error (${detail})`, { cause });
}

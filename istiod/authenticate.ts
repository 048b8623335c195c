// Who calls istiod: the bearer token of a service account, checked for every stream and every call.
import type { Metadata } from "@grpc/grpc-js";
import { GrpcError } from "#lib/grpc/errors.ts";
import { KubeError } from "#lib/kube/errors.ts";
import { PkiError } from "#lib/pki/errors.ts";
import { TokenError } from "#lib/pki/jwt.ts";
import type { Logger } from "#lib/obs/log.ts";
import { type IdentifiedCaller, type TokenCheck, TokenRefusal } from "./token-check.ts";

export interface AuthenticatedCaller extends IdentifiedCaller {
  /** The literal `clusterid` header, empty when absent. */
  readonly clusterId: string;
}

export interface AuthenticatorOptions {
  readonly tokens: TokenCheck;
  /** The only cluster known; an empty `clusterid` means it too. */
  readonly clusterId: string;
  readonly log: Logger;
}

const BEARER = "Bearer ";
const REFUSED = "request authenticate failure";

export class Authenticator {
  readonly #options: AuthenticatorOptions;

  constructor(options: AuthenticatorOptions) {
    this.#options = options;
  }

  /**
   * @param peer address of the caller, for the log
   * @throws {GrpcError} `UNAUTHENTICATED` with the same text for every reason; the log has the reason.
   * `UNAVAILABLE` when nobody can say whose token it is: come again
   */
  async authenticate(metadata: Metadata, peer: string): Promise<AuthenticatedCaller> {
    const clusterId = single(metadata, "clusterid") ?? "";
    const authorization = single(metadata, "authorization");
    try {
      if (authorization === null || !authorization.startsWith(BEARER))
        throw new TokenError("malformed", "No bearer token");
      if (clusterId !== "" && clusterId !== this.#options.clusterId)
        throw new TokenError("wrong-issuer", `Unknown cluster ${JSON.stringify(clusterId)}`);
      const caller = await this.#options.tokens.verify(authorization.slice(BEARER.length));
      return { ...caller, clusterId };
    } catch (error) {
      throw this.#refusal(error, peer);
    }
  }

  #refusal(error: unknown, peer: string): unknown {
    const isRefused = error instanceof TokenError || error instanceof TokenRefusal;
    const isUnknown = error instanceof PkiError || error instanceof KubeError;
    if (!isRefused && !isUnknown) return error;
    const { log } = this.#options;
    const detail = error.message;
    if (isUnknown) {
      log.error({ peer, reason: error.code, detail }, "cannot authenticate anybody");
      const code = error instanceof KubeError ? "UNAVAILABLE" : "UNAUTHENTICATED";
      return new GrpcError(code, REFUSED, { cause: error });
    }
    const reason = error instanceof TokenError ? error.problem : error.reason;
    log.warn({ peer, reason, detail }, "authentication failed");
    return new GrpcError("UNAUTHENTICATED", REFUSED, { cause: error });
  }
}

/** The value of a header sent exactly once. */
function single(metadata: Metadata, name: string): string | null {
  const values = metadata.get(name);
  const value = values[0];
  return values.length === 1 && typeof value === "string" ? value : null;
}

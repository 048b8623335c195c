// What proves who a bearer token is of: a key set file (lib/pki/jwt.ts) or the API server (token-review.ts).
import type { Caller } from "#lib/pki/jwt.ts";

export interface IdentifiedCaller extends Caller {
  /** Where the token's pod runs, if its issuer says so. */
  readonly nodeName?: string | null;
}

export interface TokenCheck {
  /**
   * @throws {TokenError | TokenRefusal} when the token proves nothing
   * @throws {PkiError | KubeError} when nobody can say
   */
  verify(token: string): Promise<IdentifiedCaller>;
}

export type RefusalReason =
  | "malformed"
  | "wrong-audience"
  | "expired"
  /** Not of this cluster, or of a pod, account or node that is gone: the API server's words say which. */
  | "not-valid"
  | "not-a-service-account";

/** The reason is for logs: callers get no hint. */
export class TokenRefusal extends Error {
  override readonly name = "TokenRefusal";
  readonly reason: RefusalReason;

  constructor(reason: RefusalReason, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.reason = reason;
  }
}

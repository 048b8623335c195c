// Tokens proved by the API server that issued them (TokenReview, authentication.k8s.io/v1), with the reason
// of each refusal for the log. Source: istio security/pkg/k8s/tokenreview.
import { decodeJwt, type JWTPayload } from "jose";
import type { ApiServer } from "#lib/kube/api-server/api-server.ts";
import { reviewToken, type TokenReviewResult } from "#lib/kube/api-server/token-review.ts";
import { KubeError } from "#lib/kube/errors.ts";
import { type IdentifiedCaller, type TokenCheck, TokenRefusal } from "./token-check.ts";

export interface TokenReviewerOptions {
  /** Borrowed. */
  readonly apiServer: ApiServer;
  /** The token must be meant for one of them. */
  readonly audiences: readonly string[];
  readonly now: () => number;
  /** Default 8 s. */
  readonly deadlineMs?: number;
}

type Accepted = Extract<TokenReviewResult, { authenticated: true }>;

/** Real tokens are below 2 KiB. */
const MAX_TOKEN_BYTES = 16 * 1024;
/** Callers wait ten seconds themselves. */
const DEADLINE_MS = 8_000;
const EXTRA = "authentication.kubernetes.io/";
/** As Kubernetes allows it in a path piece; keeps slashes and colons out of identities. */
const NAME = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;

export class TokenReviewer implements TokenCheck {
  readonly #options: TokenReviewerOptions;
  /**
   * Reviews under way, by token: a node proxy that asks for many certificates at once is one question.
   * No answer is kept: a token ends with its pod, and only the API server knows. Bounded by the callers
   * that wait.
   */
  readonly #underWay = new Map<string, Promise<TokenReviewResult>>();

  constructor(options: TokenReviewerOptions) {
    this.#options = options;
  }

  /**
   * @throws {TokenRefusal} when the token proves nothing
   * @throws {KubeError} when the API server cannot say
   */
  async verify(token: string): Promise<IdentifiedCaller> {
    if (token === "" || token.length > MAX_TOKEN_BYTES)
      throw new TokenRefusal("malformed", `A token of ${token.length} bytes`);
    const result = await this.#review(token);
    if (!result.authenticated) throw this.#refusal(token, result.error);
    return callerOf(result);
  }

  async #review(token: string): Promise<TokenReviewResult> {
    let review = this.#underWay.get(token);
    if (review === undefined) {
      review = this.#ask(token);
      this.#underWay.set(token, review);
      const over = (): void => void this.#underWay.delete(token);
      review.then(over, over);
    }
    return review;
  }

  async #ask(token: string): Promise<TokenReviewResult> {
    const { apiServer, audiences, deadlineMs = DEADLINE_MS } = this.#options;
    const signal = AbortSignal.timeout(deadlineMs);
    try {
      return await reviewToken(apiServer, token, audiences, signal);
    } catch (cause) {
      if (cause instanceof KubeError || !signal.aborted) throw cause;
      throw new KubeError("TIMEOUT", `No TokenReview within ${deadlineMs} ms`, { cause });
    }
  }

  /** The API server has refused: what the token says of itself only tells why. */
  #refusal(token: string, error: string): TokenRefusal {
    const { audiences, now } = this.#options;
    let claims: JWTPayload;
    try {
      claims = decodeJwt(token);
    } catch (cause) {
      return new TokenRefusal("malformed", error, { cause });
    }
    const named = [claims.aud ?? []].flat();
    if (!named.some((audience) => audiences.includes(audience)))
      return new TokenRefusal(
        "wrong-audience",
        `The token is for ${shown(named)}, wanted ${audiences.join(" or ")}`,
      );
    const endMs = (claims.exp ?? 0) * 1000;
    if (endMs <= now())
      return new TokenRefusal("expired", `The token ended at ${new Date(endMs).toISOString()}`);
    return new TokenRefusal("not-valid", error || "The API server does not accept the token");
  }
}

/** Text of a stranger. */
function shown(audiences: readonly string[]): string {
  return JSON.stringify(audiences).slice(0, 200);
}

function callerOf({ username, groups, extra }: Accepted): IdentifiedCaller {
  const parts = username.split(":");
  const [system = "", kind = "", namespace = "", serviceAccount = ""] = parts;
  const isAccount =
    parts.length === 4 &&
    system === "system" &&
    kind === "serviceaccount" &&
    groups.includes("system:serviceaccounts");
  if (!isAccount || !NAME.test(namespace) || !NAME.test(serviceAccount))
    throw new TokenRefusal(
      "not-a-service-account",
      `The token is of ${JSON.stringify(username)}, not of a service account`,
    );
  const about = (key: string): string | null => extra.get(EXTRA + key)?.[0] || null;
  return {
    namespace,
    serviceAccount,
    podName: about("pod-name"),
    podUid: about("pod-uid"),
    nodeName: about("node-name"),
  };
}

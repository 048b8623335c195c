// Service account tokens: who is calling, proved by a signature of the token issuer.
import { readFile, stat } from "node:fs/promises";
import { createLocalJWKSet, errors, jwtVerify, type JSONWebKeySet, type JWTPayload } from "jose";
import { PkiError } from "./errors.ts";

/** Who presented a token: the claims of a projected Kubernetes service account token. */
export interface Caller {
  readonly namespace: string;
  readonly serviceAccount: string;
  /** Absent when the token is not bound to a pod. */
  readonly podName: string | null;
  readonly podUid: string | null;
}

export type TokenProblem =
  | "malformed"
  | "unknown-key"
  | "bad-signature"
  | "expired"
  | "not-yet-valid"
  | "wrong-audience"
  | "wrong-issuer"
  | "not-a-service-account";

/** The caller is not who a valid token would make him. The reason is for logs; callers get no hint. */
export class TokenError extends Error {
  override readonly name = "TokenError";
  readonly problem: TokenProblem;

  constructor(problem: TokenProblem, message: string, options?: { readonly cause?: unknown }) {
    super(message, options);
    this.problem = problem;
  }
}

export interface TokenVerifierOptions {
  /** JSON Web Key Set of the issuer; read again when it changes on disk. */
  readonly jwksFile: string;
  /** The token must name at least one of them. */
  readonly audiences: readonly string[];
  /** `null` accepts any issuer whose keys are in the file. */
  readonly issuer: string | null;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** Real tokens are below 2 KiB. */
const MAX_TOKEN_BYTES = 16 * 1024;
/** Clocks of issuer and verifier may differ by this much. */
const CLOCK_TOLERANCE_S = 5;
/** Asymmetric only: a key set of public keys must never be usable as a shared secret. */
const ALGORITHMS = ["ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "EdDSA"];

export class TokenVerifier {
  readonly #options: TokenVerifierOptions;
  #keys: { readonly stamp: string; readonly get: ReturnType<typeof createLocalJWKSet> } | null =
    null;

  constructor(options: TokenVerifierOptions) {
    this.#options = options;
  }

  /**
   * @throws {TokenError} when the token proves nothing
   * @throws {PkiError} `JWKS_INVALID` when the issuer's keys cannot be read
   */
  async verify(token: string): Promise<Caller> {
    if (token.length > MAX_TOKEN_BYTES)
      throw new TokenError(
        "malformed",
        `Token of ${token.length} bytes exceeds ${MAX_TOKEN_BYTES}`,
      );
    const keys = await this.#loadKeys();
    let payload: JWTPayload;
    try {
      const verified = await jwtVerify(token, keys, {
        algorithms: ALGORITHMS,
        audience: [...this.#options.audiences],
        ...(this.#options.issuer === null ? {} : { issuer: this.#options.issuer }),
        requiredClaims: ["exp", "sub"],
        clockTolerance: CLOCK_TOLERANCE_S,
        currentDate: new Date(this.#options.now()),
      });
      payload = verified.payload;
    } catch (cause) {
      throw tokenError(cause);
    }
    return callerOf(payload);
  }

  async #loadKeys(): Promise<ReturnType<typeof createLocalJWKSet>> {
    const path = this.#options.jwksFile;
    try {
      const { mtimeMs, size, ino } = await stat(path);
      const stamp = `${mtimeMs}/${size}/${ino}`;
      if (this.#keys?.stamp !== stamp) {
        const parsed: unknown = JSON.parse(await readFile(path, "utf8"));
        // createLocalJWKSet checks the shape and throws JWKSInvalid.
        this.#keys = { stamp, get: createLocalJWKSet(parsed as JSONWebKeySet) };
      }
      return this.#keys.get;
    } catch (cause) {
      // The last good set stays in force while the file is being replaced.
      if (this.#keys !== null) return this.#keys.get;
      throw new PkiError("JWKS_INVALID", `Cannot read token issuer keys from ${path}`, { cause });
    }
  }
}

function tokenError(cause: unknown): TokenError {
  const problem = problemOf(cause);
  const detail = cause instanceof Error ? cause.message : String(cause);
  return new TokenError(problem, `Token refused (${problem}): ${detail}`, { cause });
}

function problemOf(cause: unknown): TokenProblem {
  if (cause instanceof errors.JWTExpired) return "expired";
  if (cause instanceof errors.JWSSignatureVerificationFailed) return "bad-signature";
  if (cause instanceof errors.JWKSNoMatchingKey || cause instanceof errors.JWKSMultipleMatchingKeys)
    return "unknown-key";
  if (cause instanceof errors.JWTClaimValidationFailed) {
    if (cause.claim === "nbf") return "not-yet-valid";
    if (cause.claim === "aud") return "wrong-audience";
    if (cause.claim === "iss") return "wrong-issuer";
  }
  return "malformed";
}

/** A name as Kubernetes allows it in a path piece; keeps slashes and colons out of identities. */
const NAME = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;

function callerOf(payload: JWTPayload): Caller {
  const parts = (payload.sub ?? "").split(":");
  const [, , namespace = "", serviceAccount = ""] = parts;
  const isAccount = parts.length === 4 && parts[0] === "system" && parts[1] === "serviceaccount";
  if (!isAccount || !NAME.test(namespace) || !NAME.test(serviceAccount))
    throw new TokenError(
      "not-a-service-account",
      `Token subject ${JSON.stringify(payload.sub)} is not system:serviceaccount:<namespace>:<name>`,
    );
  const kubernetes = record(payload["kubernetes.io"]);
  const claimed = kubernetes?.["namespace"];
  if (claimed !== undefined && claimed !== namespace)
    throw new TokenError("not-a-service-account", "Token subject and namespace claim differ");
  const pod = record(kubernetes?.["pod"]);
  return { namespace, serviceAccount, podName: text(pod?.["name"]), podUid: text(pod?.["uid"]) };
}

function record(value: unknown): Readonly<Record<string, unknown>> | null {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Readonly<Record<string, unknown>>)
    : null;
}

function text(value: unknown): string | null {
  return typeof value === "string" && value !== "" ? value : null;
}

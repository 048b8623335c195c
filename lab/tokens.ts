// The lab's stand-in for the API server's token issuer: service account tokens as Kubernetes projects
// them into pods, signed with a key of this lab, and rotated in place before they expire.
import { randomUUID } from "node:crypto";
import { mkdir, rename, writeFile } from "node:fs/promises";
import { dirname } from "node:path";
import { exportJWK, generateKeyPair, SignJWT } from "jose";

const ALGORITHM = "ES256";
export const TOKEN_ISSUER = "https://kubernetes.default.svc.cluster.local";
export const TOKEN_AUDIENCE = "istio-ca";

export interface TokenSubject {
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly serviceAccountUid?: string;
  readonly pod?: { readonly name: string; readonly uid: string };
  readonly node?: { readonly name: string; readonly uid?: string };
}

export interface TokenOptions {
  readonly audiences?: readonly string[];
  readonly ttlSeconds?: number;
}

export class TokenIssuer {
  readonly #key: CryptoKey;
  readonly #keyId: string;

  private constructor(key: CryptoKey, keyId: string) {
    this.#key = key;
    this.#keyId = keyId;
  }

  /** Makes a key and writes its public half as a JWK set (RFC 7517), where istiod reads it. */
  static async create(jwksFile: string): Promise<TokenIssuer> {
    const { publicKey, privateKey } = await generateKeyPair(ALGORITHM);
    const keyId = randomUUID();
    const jwk = { ...(await exportJWK(publicKey)), kid: keyId, alg: ALGORITHM, use: "sig" };
    await mkdir(dirname(jwksFile), { recursive: true });
    await writeFile(jwksFile, `${JSON.stringify({ keys: [jwk] }, null, 2)}\n`);
    return new TokenIssuer(privateKey, keyId);
  }

  /** A signed token with the claims of a bound service account token. */
  async issue(subject: TokenSubject, options: TokenOptions = {}): Promise<string> {
    const now = Math.floor(Date.now() / 1000);
    const { namespace, serviceAccount, pod, node } = subject;
    const bound = {
      namespace,
      serviceaccount: { name: serviceAccount, uid: subject.serviceAccountUid ?? randomUUID() },
      ...(pod === undefined ? {} : { pod }),
      ...(node === undefined ? {} : { node }),
    };
    return new SignJWT({ "kubernetes.io": bound })
      .setProtectedHeader({ alg: ALGORITHM, kid: this.#keyId })
      .setIssuer(TOKEN_ISSUER)
      .setAudience([...(options.audiences ?? [TOKEN_AUDIENCE])])
      .setSubject(`system:serviceaccount:${namespace}:${serviceAccount}`)
      .setJti(randomUUID())
      .setIssuedAt(now)
      .setNotBefore(now)
      .setExpirationTime(now + (options.ttlSeconds ?? 43_200))
      .sign(this.#key);
  }
}

/** Keeps a token file fresh: rewritten when 80 % of its life is over, as the kubelet does. */
export class ProjectedToken implements Disposable {
  readonly file: string;
  readonly #issuer: TokenIssuer;
  readonly #subject: TokenSubject;
  readonly #options: TokenOptions;
  #timer: NodeJS.Timeout | null = null;

  private constructor(
    issuer: TokenIssuer,
    file: string,
    subject: TokenSubject,
    options: TokenOptions,
  ) {
    this.#issuer = issuer;
    this.file = file;
    this.#subject = subject;
    this.#options = options;
  }

  static async create(
    issuer: TokenIssuer,
    file: string,
    subject: TokenSubject,
    options: TokenOptions = {},
  ): Promise<ProjectedToken> {
    const token = new ProjectedToken(issuer, file, subject, options);
    await token.rotate();
    return token;
  }

  /** Writes a new token now and plans the next one. */
  async rotate(): Promise<void> {
    const token = await this.#issuer.issue(this.#subject, this.#options);
    await mkdir(dirname(this.file), { recursive: true });
    await writeFile(`${this.file}.tmp`, token, { mode: 0o600 });
    await rename(`${this.file}.tmp`, this.file);
    clearTimeout(this.#timer ?? undefined);
    const ttlSeconds = this.#options.ttlSeconds ?? 43_200;
    this.#timer = setTimeout(() => void this.rotate().catch(() => {}), ttlSeconds * 800);
    this.#timer.unref();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer ?? undefined);
    this.#timer = null;
  }
}

// The self-signed root, kept in one file of CA_STATE_DIR so that restarts and other replicas use the same.
import { link, mkdir, open, readFile, rename, unlink } from "node:fs/promises";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { makeCaBundle, type CaBundle } from "#lib/pki/ca-bundle.ts";
import { parseCertificate, type Certificate } from "#lib/pki/certificate.ts";
import { issueCa, type Signer } from "#lib/pki/issue.ts";
import { generateRsaKey, parsePrivateKey, type KeyPair } from "#lib/pki/keys.ts";
import { parseTrustBundle } from "#lib/pki/trust-bundle.ts";
import { IstiodError } from "../errors.ts";

export interface SelfSignedOptions {
  /** `null` keeps the root in memory only: a restart is then a new mesh. */
  readonly dir: string | null;
  /** Subject `O=`. */
  readonly trustDomain: string;
  /** PEM of further roots to hand out beside our own. */
  readonly extraRootPem: string;
  readonly now: () => number;
}

/** Key (PKCS #1, as in Secret `istio-ca-secret`) and certificate, in this order. */
const FILE = "istio-ca-secret.pem";
const ROOT_LIFE_MS = 3650 * 86_400_000;
/** A root with less than this share of its life left is renewed, with the same key. */
const GRACE_RATIO = 0.2;

export class SelfSignedCa {
  readonly #options: SelfSignedOptions;
  #memory: Signer | null = null;

  constructor(options: SelfSignedOptions) {
    this.#options = options;
  }

  /** Reads the root or makes one. Of several processes doing this at once, one wins and all use its root. */
  async load(): Promise<CaBundle> {
    const kept = await this.#read();
    if (kept !== null) return this.#renewed(kept);
    const keys = await generateRsaKey();
    const made = { certificate: await this.#issue(keys), key: keys.privateKey };
    return this.#bundle(await this.#keep(made, "first"));
  }

  /**
   * The root as it is now: another replica's newer one, or a renewal when little life is left. Leaves
   * issued before keep verifying, since the key stays.
   */
  async renewIfDue(): Promise<CaBundle> {
    const kept = await this.#read();
    return kept === null ? this.load() : this.#renewed(kept);
  }

  async #renewed({ certificate, key }: Signer): Promise<CaBundle> {
    const life = certificate.notAfterMs - certificate.notBeforeMs;
    const left = certificate.notAfterMs - this.#options.now();
    if (left > life * GRACE_RATIO) return this.#bundle({ certificate, key });
    const keys = { publicKey: certificate.x509.publicKey, privateKey: key };
    const next = { certificate: await this.#issue(keys), key };
    return this.#bundle(await this.#keep(next, "replacement"));
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
    return makeCaBundle(signer.certificate, signer.key, [], roots, this.#options.now());
  }

  async #read(): Promise<Signer | null> {
    if (this.#options.dir === null) return this.#memory;
    const path = join(this.#options.dir, FILE);
    let text: string;
    try {
      text = await readFile(path, "utf8");
    } catch (cause) {
      if (isErrno(cause, "ENOENT")) return null;
      throw new IstiodError("CA_STATE", `Cannot read the self-signed root ${path}`, { cause });
    }
    try {
      return { certificate: parseCertificate(text), key: parsePrivateKey(text) };
    } catch (cause) {
      // Never replaced by a new root on its own: every proxy would lose its trust at once.
      throw new IstiodError("CA_STATE", `The self-signed root ${path} is damaged`, { cause });
    }
  }

  /** Written beside and then linked (which fails if somebody was first) or renamed: never seen half written. */
  async #keep(signer: Signer, as: "first" | "replacement"): Promise<Signer> {
    const { dir } = this.#options;
    this.#memory = signer;
    if (dir === null) return signer;
    const key = signer.key.export({ type: "pkcs1", format: "pem" }).toString();
    const path = join(dir, FILE);
    const draft = join(dir, `.${FILE}.${randomUUID()}`);
    try {
      await mkdir(dir, { recursive: true, mode: 0o700 });
      await using file = await open(draft, "wx", 0o600);
      await file.writeFile(key + signer.certificate.pem);
      await file.sync();
      if (as === "replacement") {
        await rename(draft, path);
        return signer;
      }
      await link(draft, path);
      await unlink(draft);
      return signer;
    } catch (cause) {
      await unlink(draft).catch(() => {});
      const winner = isErrno(cause, "EEXIST") ? await this.#read() : null;
      if (winner !== null) return winner;
      throw new IstiodError("CA_STATE", `Cannot keep the self-signed root in ${dir}`, { cause });
    }
  }
}

function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}

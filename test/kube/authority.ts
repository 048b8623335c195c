// The test cluster's certificate authority: one for servers and clients, made by the openssl command.
import { createHash } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { run } from "../../lab/process.ts";

export interface KeyPairFiles {
  readonly cert: string;
  readonly key: string;
}

const EC_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
const DAYS = ["-days", "2"];
/** The system's configuration would add extensions of its own. */
const NO_EXTENSIONS = "[req]\ndistinguished_name=subject\n[subject]\n";

/** Borrows a directory, which takes keys and certificates. */
export class Authority {
  readonly #dir: string;
  /** By file name: whoever asks for the same gets the same. */
  readonly #issued = new Map<string, Promise<KeyPairFiles>>();

  private constructor(dir: string) {
    this.#dir = dir;
  }

  static async create(dir: string): Promise<Authority> {
    const authority = new Authority(dir);
    await writeFile(authority.#config, NO_EXTENSIONS);
    await authority.#make(
      authority.ca,
      "/CN=kubernetes-ca",
      [],
      [
        "basicConstraints=critical,CA:TRUE",
        "keyUsage=critical,keyCertSign,cRLSign,digitalSignature",
        "subjectKeyIdentifier=hash",
      ],
    );
    return authority;
  }

  get ca(): KeyPairFiles {
    return this.#files("ca");
  }

  /** For a server with these names and addresses. */
  server(name: string, sans: readonly string[]): Promise<KeyPairFiles> {
    const names = sans.map((san) => (isAddress(san) ? `IP:${san}` : `DNS:${san}`)).join(",");
    return this.#issue(name, `/CN=${name}`, [
      `subjectAltName=${names}`,
      "extendedKeyUsage=serverAuth,clientAuth",
    ]);
  }

  /** For a Kubernetes user: the common name is the user, each organization a group. */
  client(user: string, groups: readonly string[]): Promise<KeyPairFiles> {
    const subject = [...groups.map((g) => `/O=${escape(g)}`), `/CN=${escape(user)}`].join("");
    const name = `client-${createHash("sha256").update(subject).digest("hex").slice(0, 12)}`;
    return this.#issue(name, subject, ["extendedKeyUsage=clientAuth"]);
  }

  #issue(name: string, subject: string, extensions: string[]): Promise<KeyPairFiles> {
    const known = this.#issued.get(name);
    if (known !== undefined) return known;
    const files = this.#files(name);
    const issued = this.#make(
      files,
      subject,
      ["-CA", this.ca.cert, "-CAkey", this.ca.key],
      ["basicConstraints=critical,CA:FALSE", "keyUsage=critical,digitalSignature", ...extensions],
    ).then(() => files);
    this.#issued.set(name, issued);
    return issued;
  }

  async #make(
    files: KeyPairFiles,
    subject: string,
    signer: readonly string[],
    extensions: readonly string[],
  ): Promise<void> {
    await run([
      ...["openssl", "req", "-x509", "-config", this.#config, ...EC_KEY, "-subj", subject, ...DAYS],
      ...signer,
      ...extensions.flatMap((extension) => ["-addext", extension]),
      ...["-keyout", files.key, "-out", files.cert],
    ]);
  }

  get #config(): string {
    return join(this.#dir, "openssl.cnf");
  }

  #files(name: string): KeyPairFiles {
    return { cert: join(this.#dir, `${name}.crt`), key: join(this.#dir, `${name}.key`) };
  }
}

const isAddress = (san: string): boolean => san.includes(":") || /^[\d.]+$/.test(san);

/** openssl's subject syntax. */
const escape = (text: string): string => text.replaceAll(/[\\/+]/g, "\\$&");

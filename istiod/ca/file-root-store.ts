// The self-signed root in one file of CA_STATE_DIR: key (as in Secret `istio-ca-secret`), then certificate.
import { link, mkdir, open, readFile, rename, unlink } from "node:fs/promises";
import { randomUUID } from "node:crypto";
import { join } from "node:path";
import { parseCertificate } from "#lib/pki/certificate.ts";
import type { Signer } from "#lib/pki/issue.ts";
import { parsePrivateKey } from "#lib/pki/keys.ts";
import { IstiodError } from "../errors.ts";
import { caKeyPem, type RootStore } from "./root-store.ts";

const FILE = "istio-ca-secret.pem";

export class FileRootStore implements RootStore {
  readonly #dir: string;

  constructor(dir: string) {
    this.#dir = dir;
  }

  async read(): Promise<Signer | null> {
    const path = join(this.#dir, FILE);
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
      throw new IstiodError("CA_STATE", `The self-signed root ${path} is damaged`, { cause });
    }
  }

  keepFirst(signer: Signer): Promise<Signer> {
    return this.#keep(signer, async (draft, path) => {
      await link(draft, path);
      await unlink(draft);
    });
  }

  replace(signer: Signer): Promise<Signer> {
    return this.#keep(signer, rename);
  }

  /** Written beside and then put in place by `place`, which fails if somebody was first: never seen half written. */
  async #keep(
    signer: Signer,
    place: (draft: string, path: string) => Promise<void>,
  ): Promise<Signer> {
    const draft = join(this.#dir, `.${FILE}.${randomUUID()}`);
    try {
      await mkdir(this.#dir, { recursive: true, mode: 0o700 });
      await using file = await open(draft, "wx", 0o600);
      await file.writeFile(caKeyPem(signer.key) + signer.certificate.pem);
      await file.sync();
      await place(draft, join(this.#dir, FILE));
      return signer;
    } catch (cause) {
      await unlink(draft).catch(() => {});
      const winner = isErrno(cause, "EEXIST") ? await this.read() : null;
      if (winner !== null) return winner;
      const message = `Cannot keep the self-signed root in ${this.#dir}`;
      throw new IstiodError("CA_STATE", message, { cause });
    }
  }
}

function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && "code" in error && error.code === code;
}

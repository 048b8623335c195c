// Where a self-signed root is kept, so that restarts and other replicas use the same: in memory, in a
// file (file-root-store.ts), or in a Secret (secret-root-store.ts).
import type { KeyObject } from "node:crypto";
import type { Signer } from "#lib/pki/issue.ts";

export interface RootStore {
  /**
   * @returns `null` when nothing has been kept yet
   * @throws {IstiodError} `CA_STATE` when it is damaged: never replaced by a new root on its own, since
   * every proxy would lose its trust at once
   */
  read(): Promise<Signer | null>;
  /** Keeps the first one. @returns what is kept: of several replicas doing this at once, one wins */
  keepFirst(signer: Signer): Promise<Signer>;
  /** Replaces what was read last. @returns what is kept: another replica's, if it was faster */
  replace(signer: Signer): Promise<Signer>;
}

/** As Istio writes it: PKCS #1, or SEC 1 for a key that somebody else made. */
export function caKeyPem(key: KeyObject): string {
  const type = key.asymmetricKeyType === "ec" ? "sec1" : "pkcs1";
  return key.export({ type, format: "pem" }).toString();
}

/** A restart is then a new mesh. */
export class MemoryRootStore implements RootStore {
  #kept: Signer | null = null;

  async read(): Promise<Signer | null> {
    return this.#kept;
  }

  async keepFirst(signer: Signer): Promise<Signer> {
    this.#kept ??= signer;
    return this.#kept;
  }

  async replace(signer: Signer): Promise<Signer> {
    this.#kept = signer;
    return signer;
  }
}

// The plugin's executable on the node and the libraries beside it: the image's, byte for byte. They are large, so
// they are copied only when the node's is another, and compared only when one of both files has changed.
import { createHash } from "node:crypto";
import { createReadStream, statSync, type BigIntStats } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { copyAtomic, dropLeftovers } from "./atomic-file.ts";

export class Binaries {
  readonly #from: string;
  readonly #to: string;
  /** Pairs of files that were found equal, as both looked then. */
  readonly #equal = new Map<string, string>();

  constructor(from: string, to: string) {
    this.#from = from;
    this.#to = to;
  }

  /** Names of those that are not on the node as they should be. @throws when the image's cannot be read */
  async missing(): Promise<readonly string[]> {
    const missing: string[] = [];
    for (const name of await this.#names()) if (!(await this.#isInPlace(name))) missing.push(name);
    return missing;
  }

  /** Copies what is missing; returns the names. */
  async copy(): Promise<readonly string[]> {
    const names = await this.missing();
    for (const name of names) {
      const [source, target] = [join(this.#from, name), join(this.#to, name)];
      dropLeftovers(target);
      await copyAtomic(source, target, Number(statSync(source).mode) & 0o777);
      this.#equal.set(name, this.#look(name) ?? "");
    }
    return names;
  }

  /** Takes off the node what is the image's, byte for byte; what another program has put there stays. */
  async remove(): Promise<void> {
    for (const name of await this.#names()) {
      const target = join(this.#to, name);
      if (await this.#isInPlace(name)) await rm(target, { force: true });
      dropLeftovers(target);
    }
  }

  async #names(): Promise<readonly string[]> {
    const entries = await readdir(this.#from, { withFileTypes: true });
    const names = entries.filter((entry) => entry.isFile()).map((entry) => entry.name);
    if (names.length === 0) throw new Error(`${this.#from} holds no executable`);
    return names.sort();
  }

  async #isInPlace(name: string): Promise<boolean> {
    const look = this.#look(name);
    if (look === null) return false;
    if (this.#equal.get(name) === look) return true;
    const [source, target] = [join(this.#from, name), join(this.#to, name)];
    const [a, b] = [statSync(source), statSync(target)];
    if (a.size !== b.size || (a.mode & 0o777) !== (b.mode & 0o777)) return false;
    if ((await digest(source)) !== (await digest(target))) return false;
    this.#equal.set(name, look);
    return true;
  }

  /** Changes when either file does; `null` when the node has none. */
  #look(name: string): string | null {
    try {
      return [this.#from, this.#to]
        .map((dir) => describe(statSync(join(dir, name), { bigint: true })))
        .join(" ");
    } catch {
      return null;
    }
  }
}

function describe({ dev, ino, size, mode, mtimeNs, ctimeNs }: BigIntStats): string {
  return [dev, ino, size, mode, mtimeNs, ctimeNs].join(":");
}

async function digest(path: string): Promise<string> {
  const hash = createHash("sha256");
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash);
  return hash.digest("hex");
}

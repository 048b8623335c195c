// What a request needs to be let in, read anew as files rotate and plugins' answers expire.
import type { Agent } from "node:http";
import { readFile } from "node:fs/promises";
import { KubeError } from "../errors.ts";

/** One reading. Equal readings give equal TLS settings, so connections are kept. */
export interface Credentials {
  readonly ca: Buffer | null;
  readonly cert: Buffer | string | null;
  readonly key: Buffer | string | null;
  readonly headers: Readonly<Record<string, string | string[]>>;
  /** Only behind a proxy, whose agent then knows the rest. */
  readonly agent?: Agent;
}

export interface CredentialSource {
  /** @param isRefused the last reading was answered with 401: nothing remembered counts */
  read(isRefused: boolean): Promise<Credentials>;
}

/** Where the server is and how we know that it is the server. */
export interface Endpoint {
  readonly url: URL;
  /** Instead of the URL's host, in the server's certificate. */
  readonly serverName: string | null;
  /** `insecure-skip-tls-verify`. */
  readonly isUnverified: boolean;
  readonly context: string;
  readonly namespace: string;
  readonly credentials: CredentialSource;
}

/** Rotated tokens and certificates are used at most this much later. */
const FILE_AGE_MS = 10_000;

/** A file that rotates in place, as projected service-account tokens do. */
export class RotatingFile {
  readonly #path: string;
  readonly #what: string;
  #content: Buffer | null = null;
  #readAt = 0;

  constructor(path: string, what: string) {
    this.#path = path;
    this.#what = what;
  }

  async read(isRefused: boolean): Promise<Buffer> {
    const now = performance.now();
    if (this.#content !== null && !isRefused && now - this.#readAt < FILE_AGE_MS)
      return this.#content;
    try {
      this.#content = await readFile(this.#path);
    } catch (cause) {
      throw new KubeError("CONFIG", `Cannot read the ${this.#what} ${this.#path}`, {
        file: this.#path,
        cause,
      });
    }
    this.#readAt = now;
    return this.#content;
  }
}

/** The pod's own service account: token and CA are mounted files. */
export function serviceAccountCredentials(dir: string): CredentialSource {
  const token = new RotatingFile(`${dir}/token`, "service-account token");
  const ca = new RotatingFile(`${dir}/ca.crt`, "cluster CA");
  return {
    read: async (isRefused) => {
      const bearer = (await token.read(isRefused)).toString("utf8").trim();
      return {
        ca: await ca.read(isRefused),
        cert: null,
        key: null,
        headers: { Authorization: `Bearer ${bearer}` },
      };
    },
  };
}

// The token in the plugin's kubeconfig. The agent's own is bound to its pod and refused the moment that pod
// is gone, which is just when the plugin needs one. So the agent asks for another of its service account,
// bound to the node; without the right to, its own has to do.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Clock } from "#lib/base/clock.ts";
import { KubeError } from "#lib/kube/errors.ts";
import type { Logger } from "#lib/obs/log.ts";

export interface MintedToken {
  readonly token: string;
  readonly expiresMs: number;
}

export interface ServiceAccountName {
  readonly namespace: string;
  readonly name: string;
}

/** Asks the cluster for a token of `account` that outlives this pod. @throws {KubeError} */
export type MintToken = (account: ServiceAccountName) => Promise<MintedToken>;

export interface PluginTokenOptions {
  /** Where the agent's own token is. */
  readonly serviceAccountDir: string;
  /** `null` without an API server. */
  readonly mint: MintToken | null;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Replaced when a fifth of its life is over: an agent may be away for most of the rest. */
const RENEW_AFTER = 0.2;
const RETRY_MS = 60_000;
const RETRY_REFUSED_MS = 600_000;

export class PluginToken {
  readonly #o: PluginTokenOptions;
  #minted: MintedToken | null = null;
  #mintAtMs = 0;
  #hasComplained = false;

  constructor(options: PluginTokenOptions) {
    this.#o = options;
  }

  /** @throws {Error} when there is neither */
  async current(): Promise<string> {
    const { mint, clock, serviceAccountDir } = this.#o;
    const own = readFileSync(join(serviceAccountDir, "token"), "utf8").trim();
    if (own === "") throw new Error(`${serviceAccountDir}/token is empty`);
    const now = clock.now();
    if (mint !== null && now >= this.#mintAtMs) await this.#renew(mint, own, now);
    return this.#minted !== null && this.#minted.expiresMs > now ? this.#minted.token : own;
  }

  async #renew(mint: MintToken, own: string, now: number): Promise<void> {
    const account = accountOf(own);
    if (account === null) return void (this.#mintAtMs = Number.POSITIVE_INFINITY);
    try {
      const minted = await mint(account);
      this.#minted = minted;
      this.#mintAtMs = now + (minted.expiresMs - now) * RENEW_AFTER;
      this.#hasComplained = false;
    } catch (error) {
      const isRefused = error instanceof KubeError && error.code === "FORBIDDEN";
      this.#mintAtMs = now + (isRefused ? RETRY_REFUSED_MS : RETRY_MS);
      if (this.#hasComplained) return;
      this.#hasComplained = true;
      this.#o.log.warn(
        { account, error },
        "cannot get a token for the plugin: while this agent is away, no pod starts here outside excluded namespaces",
      );
    }
  }
}

/** The subject of a service account's token, unverified: it is our own. */
export function accountOf(token: string): ServiceAccountName | null {
  try {
    const payload = Buffer.from(token.split(".")[1] ?? "", "base64url").toString();
    const { sub } = JSON.parse(payload) as { sub?: unknown };
    const [, namespace = "", name = ""] =
      /^system:serviceaccount:([a-z0-9-]+):([a-z0-9.-]+)$/.exec(String(sub)) ?? [];
    return name === "" ? null : { namespace, name };
  } catch {
    return null;
  }
}

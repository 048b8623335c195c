// Where the CA comes from, and how it changes while istiod runs: plugged-in files, Secret `cacerts`, or a
// self-signed root.
import { Backoff } from "#lib/base/backoff.ts";
import type { Clock } from "#lib/base/clock.ts";
import { KubeError } from "#lib/kube/errors.ts";
import type { Logger } from "#lib/obs/log.ts";
import type { CaBundle } from "#lib/pki/ca-bundle.ts";
import { loadExtraRoots, loadPluggedInCa, type PluggedInCa } from "#lib/pki/ca-files.ts";
import { DirectoryTrigger } from "../watch/directory-trigger.ts";
import type { CacertsSecret } from "./cacerts-secret.ts";
import type { RootStore } from "./root-store.ts";
import { SelfSignedCa } from "./self-signed.ts";

export interface CaSourceOptions {
  /** Plugged-in files, or extra roots for a self-signed CA. */
  readonly rootCaDir: string;
  /** Looked at when the directory holds no CA; `null` without an API server. */
  readonly secret: CacertsSecret | null;
  /** For a self-signed root. */
  readonly store: RootStore;
  readonly trustDomain: string;
  /** How often a self-signed root is looked at; 0 never. */
  readonly rootCheckMs: number;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
}

export type CaKind = "plugged-in" | "plugged-in-secret" | "self-signed";

/** An API server that does not answer at the start is waited for, as long as Istio does. */
const PATIENCE_MS = 20 * 60_000;

export class CaSource {
  readonly #options: CaSourceOptions;
  #selfSigned: SelfSignedCa | null = null;
  #kind: CaKind = "plugged-in";

  constructor(options: CaSourceOptions) {
    this.#options = options;
  }

  get kind(): CaKind {
    return this.#kind;
  }

  /** @throws {PkiError | IstiodError | KubeError} saying what is wrong, where, and how */
  async load(signal: AbortSignal): Promise<CaBundle> {
    const { clock, random, log } = this.#options;
    const until = clock.now() + PATIENCE_MS;
    const backoff = new Backoff({ startMs: 100, maxMs: 10_000, jitter: 0.2, random });
    for (;;) {
      try {
        return await this.#load();
      } catch (error) {
        if (!(error instanceof KubeError) || clock.now() > until) throw error;
        log.warn({ error }, "CA cannot be read or kept; trying again");
        await clock.sleep(backoff.next(), signal);
        signal.throwIfAborted();
      }
    }
  }

  /**
   * Hands every bundle that may be new to `onBundle`, until `signal` aborts. A bundle that cannot be
   * read is logged and the one in force stays.
   */
  async watch(
    onBundle: (bundle: CaBundle) => void | Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    const look = async (load: () => Promise<CaBundle | null>): Promise<void> => {
      try {
        const bundle = await load();
        if (bundle !== null) await onBundle(bundle);
      } catch (error) {
        const { log } = this.#options;
        if (error instanceof KubeError)
          log.warn({ error }, "CA cannot be read; the current one stays");
        else log.error({ error }, "new CA refused; the current one stays");
      }
    };
    switch (this.#kind) {
      case "plugged-in":
        return this.#watchDirectory(() => look(() => this.#pluggedIn()), signal);
      case "plugged-in-secret":
        return this.#options.secret?.watch(() => look(() => this.#fromSecret()), signal);
      case "self-signed":
        return this.#watchRoot(
          () => look(async () => (await this.#selfSigned?.load()) ?? null),
          signal,
        );
      default:
        return this.#kind satisfies never;
    }
  }

  async #load(): Promise<CaBundle> {
    const { rootCaDir, trustDomain, store, clock } = this.#options;
    this.#kind = "plugged-in";
    const plugged = await this.#pluggedIn();
    if (plugged !== null) return plugged;
    this.#kind = "plugged-in-secret";
    const fromSecret = await this.#fromSecret();
    if (fromSecret !== null) return fromSecret;
    this.#kind = "self-signed";
    this.#selfSigned ??= new SelfSignedCa({
      store,
      trustDomain,
      extraRootPem: await loadExtraRoots(rootCaDir),
      now: () => clock.now(),
    });
    return this.#selfSigned.load();
  }

  async #pluggedIn(): Promise<CaBundle | null> {
    const { rootCaDir, clock } = this.#options;
    return this.#checked(await loadPluggedInCa(rootCaDir, clock.now()), rootCaDir);
  }

  async #fromSecret(): Promise<CaBundle | null> {
    const { secret, clock } = this.#options;
    return secret === null ? null : this.#checked(await secret.load(clock.now()), secret.name);
  }

  #checked(loaded: PluggedInCa | null, from: string): CaBundle | null {
    for (const warning of loaded?.warnings ?? [])
      this.#options.log.warn({ from, warning }, "plugged-in CA");
    return loaded?.bundle ?? null;
  }

  async #watchDirectory(look: () => Promise<void>, signal: AbortSignal): Promise<void> {
    const { rootCaDir, clock, log } = this.#options;
    using directory = new DirectoryTrigger(rootCaDir, clock, (error) =>
      log.warn({ error, dir: rootCaDir }, "cannot watch CA directory; polling"),
    );
    for (;;) {
      await directory.changed(signal);
      if (signal.aborted) return;
      await look();
    }
  }

  /** First after a random part of the interval, so that replicas do not all look at once. */
  async #watchRoot(look: () => Promise<void>, signal: AbortSignal): Promise<void> {
    const { rootCheckMs, clock, random } = this.#options;
    if (rootCheckMs <= 0) return;
    for (let isFirst = true; ; isFirst = false) {
      await clock.sleep(rootCheckMs * (isFirst ? random() : 1), signal);
      if (signal.aborted) return;
      await look();
    }
  }
}

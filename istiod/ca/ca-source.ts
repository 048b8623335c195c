// Where the CA comes from, and how it changes while istiod runs: plugged-in files, or a self-signed root.
import type { Clock } from "#lib/base/clock.ts";
import type { Logger } from "#lib/obs/log.ts";
import type { CaBundle } from "#lib/pki/ca-bundle.ts";
import { loadExtraRoots, loadPluggedInCa } from "#lib/pki/ca-files.ts";
import { DirectoryTrigger } from "../watch/directory-trigger.ts";
import { SelfSignedCa } from "./self-signed.ts";

export interface CaSourceOptions {
  /** Plugged-in files, or extra roots for a self-signed CA. */
  readonly rootCaDir: string;
  /** `null` keeps a self-signed root in memory. */
  readonly stateDir: string | null;
  readonly trustDomain: string;
  /** How often a self-signed root is looked at; 0 never. */
  readonly rootCheckMs: number;
  readonly clock: Clock;
  readonly random: () => number;
  readonly log: Logger;
}

export class CaSource {
  readonly #options: CaSourceOptions;
  #selfSigned: SelfSignedCa | null = null;
  #kind: "plugged-in" | "self-signed" = "plugged-in";

  constructor(options: CaSourceOptions) {
    this.#options = options;
  }

  get kind(): "plugged-in" | "self-signed" {
    return this.#kind;
  }

  /** @throws {PkiError | IstiodError} saying which file is wrong and how */
  async load(): Promise<CaBundle> {
    const { rootCaDir, stateDir, trustDomain, clock, log } = this.#options;
    const plugged = await this.#loadPluggedIn();
    if (plugged !== null) return plugged;
    if (stateDir === null)
      log.warn("CA_STATE_DIR is not set: the self-signed root is lost when istiod stops");
    this.#kind = "self-signed";
    this.#selfSigned = new SelfSignedCa({
      dir: stateDir,
      trustDomain,
      extraRootPem: await loadExtraRoots(rootCaDir),
      now: () => clock.now(),
    });
    return this.#selfSigned.load();
  }

  /**
   * Hands every bundle that may be new to `onBundle`, until `signal` aborts. A bundle that cannot be
   * read is logged and the one in force stays.
   */
  async watch(
    onBundle: (bundle: CaBundle) => void | Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    const selfSigned = this.#selfSigned;
    if (selfSigned !== null && this.#options.rootCheckMs <= 0) return;
    using directory = selfSigned === null ? this.#watchDirectory() : null;
    for (let isFirst = true; ; isFirst = false) {
      if (directory !== null) await directory.changed(signal);
      else await this.#nextCheck(isFirst, signal);
      if (signal.aborted) return;
      try {
        const bundle = await (selfSigned?.renewIfDue() ?? this.#loadPluggedIn());
        if (bundle !== null) await onBundle(bundle);
      } catch (error) {
        this.#options.log.error({ error }, "new CA refused; the current one stays");
      }
    }
  }

  async #loadPluggedIn(): Promise<CaBundle | null> {
    const loaded = await loadPluggedInCa(this.#options.rootCaDir, this.#options.clock.now());
    for (const warning of loaded?.warnings ?? [])
      this.#options.log.warn({ dir: this.#options.rootCaDir, warning }, "plugged-in CA");
    return loaded?.bundle ?? null;
  }

  #watchDirectory(): DirectoryTrigger {
    const { rootCaDir, clock, log } = this.#options;
    return new DirectoryTrigger(rootCaDir, clock, (error) =>
      log.warn({ error, dir: rootCaDir }, "cannot watch CA directory; polling"),
    );
  }

  /** First after a random part of the interval, so that replicas do not all look at once. */
  async #nextCheck(isFirst: boolean, signal: AbortSignal): Promise<void> {
    const { rootCheckMs, clock, random } = this.#options;
    await clock.sleep(rootCheckMs * (isFirst ? random() : 1), signal);
  }
}

// Keeps the plugin on the node: executable, kubeconfig and our entry in the network configuration, in
// that order, so that a runtime never calls what is not there. Level-triggered: whatever changes in the
// directories, the next pass looks at all three again and writes what is not as it should be.
import { join } from "node:path";
import { rmSync } from "node:fs";
import type { Clock } from "#lib/base/clock.ts";
import type { Logger } from "#lib/obs/log.ts";
import { dropLeftovers, writeAtomic } from "./atomic-file.ts";
import { Binaries } from "./binaries.ts";
import type { InstallConfig } from "./config.ts";
import { ConflictWatch } from "./conflict.ts";
import { InstallError, type InstallErrorCode } from "./errors.ts";
import { isKubeconfigCurrent, kubeconfigPath, wantedKubeconfig } from "./kubeconfig.ts";
import { inspectNetDir, type NetChange } from "./net-dir.ts";
import { DirectoryWatch } from "./watch-dirs.ts";

export interface InstallerOptions {
  readonly config: InstallConfig;
  readonly log: Logger;
  readonly clock: Clock;
  /** Asked at every look; cheap unless a new one is due. */
  readonly token: { current(): Promise<string> };
  /** Told at every change of mind: whether a runtime would call our plugin now. */
  readonly onReady: (isReady: boolean) => void;
  /** Told after each pass that wrote something, or failed to. */
  readonly onPass: (result: "SUCCESS" | InstallErrorCode) => void;
}

/** An event may be lost, and some file systems send none. */
const LOOK_AGAIN_MS = 30_000;
/** Waiting for directories or a network plugin that has not started. */
const WAITING_LOOK_MS = 2_000;
const RETRY_START_MS = 500;
const RETRY_MAX_MS = 15_000;

export class Installer {
  readonly #o: InstallerOptions;
  readonly #binaries: Binaries;
  readonly #conflicts: ConflictWatch;
  #isReady = false;
  #installedIn: string | null = null;
  #lastTrouble: string | null = null;

  constructor(options: InstallerOptions) {
    this.#o = options;
    this.#binaries = new Binaries(options.config.sourceDir, options.config.binDir);
    this.#conflicts = new ConflictWatch(options.clock, options.log);
  }

  /** The file of the network configuration that holds our plugin; `null` while none does. */
  get installedIn(): string | null {
    return this.#isReady ? this.#installedIn : null;
  }

  /** What keeps the plugin from being installed, as last seen; `null` when nothing does. */
  get problem(): string | null {
    return this.#isReady ? null : this.#lastTrouble;
  }

  /** Installs and repairs until `signal` aborts; what is installed stays. Never rejects. */
  async run(signal: AbortSignal): Promise<void> {
    const { config } = this.#o;
    using watch = new DirectoryWatch([
      config.netDir,
      config.binDir,
      config.runDir,
      config.serviceAccountDir,
    ]);
    let failures = 0;
    while (!signal.aborted) {
      watch.arm(); // before looking: what changes meanwhile is seen
      const outcome = await this.#pass(signal);
      if (signal.aborted) return;
      switch (outcome) {
        case "wrote":
          failures = 0;
          break; // look again: only what is found in place counts
        case "in place":
          failures = 0;
          await watch.changed(LOOK_AGAIN_MS, signal);
          break;
        case "waiting":
          failures = 0;
          await watch.changed(WAITING_LOOK_MS, signal);
          break;
        case "failed":
          await this.#o.clock.sleep(
            Math.min(RETRY_MAX_MS, RETRY_START_MS * 2 ** Math.min(10, failures++)),
            signal,
          );
          break;
        default:
          outcome satisfies never;
      }
    }
  }

  /** What is not as it should be, written nowhere; empty when a runtime would call our plugin. */
  async faults(): Promise<readonly string[]> {
    const { config } = this.#o;
    const faults: string[] = [];
    const look = async (of: () => string | null | Promise<string | null>): Promise<void> => {
      try {
        const fault = await of();
        if (fault !== null) faults.push(fault);
      } catch (error) {
        faults.push(error instanceof Error ? error.message : String(error));
      }
    };
    await look(async () => {
      const missing = await this.#binaries.missing();
      return missing.length === 0 ? null : `not in ${config.binDir}: ${missing.join(", ")}`;
    });
    await look(async () =>
      isKubeconfigCurrent(config, wantedKubeconfig(config, await this.#o.token.current()))
        ? null
        : `${kubeconfigPath(config)} is not current`,
    );
    await look(() => {
      const state = inspectNetDir(config);
      if (state.kind === "installed") return null;
      return state.kind === "waiting"
        ? `waiting for ${state.why}`
        : `the plugin is not in ${state.change.replaces ?? state.change.name}`;
    });
    return faults;
  }

  async #pass(signal: AbortSignal): Promise<"in place" | "wrote" | "waiting" | "failed"> {
    try {
      const wrote = [await this.#copyBinaries(), await this.#writeKubeconfig()].includes(true);
      const net = await this.#writeNetConfig(signal);
      if (net === "waiting") {
        this.#setReady(false);
        return "waiting";
      }
      if (wrote || net === "wrote") {
        this.#o.onPass("SUCCESS");
        return "wrote";
      }
      this.#lastTrouble = null;
      this.#setReady(true);
      return "in place";
    } catch (error) {
      this.#setReady(false);
      const code = error instanceof InstallError ? error.code : "CREATE_CNI_CONFIG_FAILURE";
      this.#o.onPass(code);
      this.#trouble(error instanceof Error ? error.message : String(error), () =>
        this.#o.log.error({ code, error }, "cannot install the plugin, trying again"),
      );
      return "failed";
    }
  }

  async #copyBinaries(): Promise<boolean> {
    try {
      const copied = await this.#binaries.copy();
      if (copied.length > 0)
        this.#o.log.info({ copied, to: this.#o.config.binDir }, "plugin copied to the node");
      return copied.length > 0;
    } catch (cause) {
      throw new InstallError(
        "COPY_BINARIES_FAILURE",
        `Cannot copy the plugin from ${this.#o.config.sourceDir} to ${this.#o.config.binDir}`,
        { cause },
      );
    }
  }

  async #writeKubeconfig(): Promise<boolean> {
    const { config } = this.#o;
    const path = kubeconfigPath(config);
    try {
      const text = wantedKubeconfig(config, await this.#o.token.current());
      if (isKubeconfigCurrent(config, text)) return false;
      dropLeftovers(path);
      await writeAtomic(path, text, config.kubeconfigMode);
      return true;
    } catch (cause) {
      throw new InstallError("CREATE_KUBECONFIG_FAILURE", `Cannot write ${path}`, { cause });
    }
  }

  async #writeNetConfig(signal: AbortSignal): Promise<"in place" | "wrote" | "waiting"> {
    const { config, log } = this.#o;
    try {
      const state = inspectNetDir(config);
      if (state.kind === "waiting") {
        this.#trouble(state.why, () =>
          log.info({ for: state.why }, "waiting to install the plugin"),
        );
        return "waiting";
      }
      if (state.kind === "installed") {
        if (this.#installedIn !== state.file)
          log.info({ file: state.file, plugins: state.plugins }, "plugin is in the network chain");
        this.#installedIn = state.file;
        return "in place";
      }
      this.#setReady(false);
      if (this.#installedIn !== null && state.isFollowing !== true) {
        const { change, plugins } = state;
        await this.#conflicts.note(
          { file: change.replaces ?? change.name, was: this.#installedIn, plugins },
          signal,
        );
        if (signal.aborted) return "in place";
      }
      await this.#write(state.change);
      return "wrote";
    } catch (cause) {
      throw new InstallError(
        "CREATE_CNI_CONFIG_FAILURE",
        `Cannot put the plugin into the network configuration in ${config.netDir}`,
        { cause },
      );
    }
  }

  async #write(change: NetChange): Promise<void> {
    const path = join(this.#o.config.netDir, change.name);
    dropLeftovers(path);
    await writeAtomic(path, change.text, change.mode);
    if (change.replaces !== null)
      rmSync(join(this.#o.config.netDir, change.replaces), { force: true });
    this.#installedIn = change.name;
    this.#o.log.info(
      { file: change.name, replaces: change.replaces },
      "plugin written into the network configuration",
    );
  }

  #setReady(isReady: boolean): void {
    if (this.#isReady === isReady) return;
    this.#isReady = isReady;
    this.#o.onReady(isReady);
  }

  /** The same trouble again is no news. */
  #trouble(text: string, say: () => void): void {
    if (this.#lastTrouble === text) return;
    this.#lastTrouble = text;
    say();
  }
}

// The installer inside the agent: its readiness and metrics, and the choice at the end whether plugin
// and node rules stay for the next agent.
import type { Clock } from "#lib/base/clock.ts";
import type { Cluster } from "#lib/kube/cluster.ts";
import type { Logger } from "#lib/obs/log.ts";
import type { Readiness } from "#lib/obs/readiness.ts";
import { decideExit, type ExitDecision } from "../install/exit-decision.ts";
import { Installer } from "../install/installer.ts";
import { PluginToken, type MintToken } from "../install/plugin-token.ts";
import { uninstall } from "../install/uninstall.ts";
import type { AgentConfig } from "./config.ts";
import type { AgentMetrics } from "./metrics.ts";

export interface InstallationOptions {
  readonly config: AgentConfig;
  readonly cluster: Cluster;
  readonly readiness: Readiness;
  readonly metrics: AgentMetrics;
  readonly log: Logger;
  readonly clock: Clock;
  readonly mintToken: MintToken | null;
}

/** Nothing at all where the plugin is installed by somebody else. */
export class Installation implements AsyncDisposable {
  readonly #o: InstallationOptions;
  readonly #installer: Installer | null;
  readonly #stop = new AbortController();
  #running: Promise<void> = Promise.resolve();
  #blocker: Disposable | null = null;

  private constructor(options: InstallationOptions) {
    this.#o = options;
    const { install } = options.config;
    if (install === null) {
      this.#installer = null;
      return;
    }
    this.#onReady(false);
    this.#installer = new Installer({
      config: install,
      log: options.log,
      clock: options.clock,
      token: new PluginToken({
        serviceAccountDir: install.serviceAccountDir,
        mint: options.mintToken,
        clock: options.clock,
        log: options.log,
      }),
      onReady: (isReady) => this.#onReady(isReady),
      onPass: (result) => options.metrics.installs.inc({ result }),
    });
    this.#running = this.#installer.run(this.#stop.signal);
  }

  static start(options: InstallationOptions): Installation {
    return new Installation(options);
  }

  /** For `/debug/pods`; `null` where the plugin is installed by somebody else. */
  status(): { readonly file: string | null; readonly problem: string | null } | null {
    if (this.#installer === null) return null;
    const { installedIn: file, problem } = this.#installer;
    return { file, problem };
  }

  /** What is not on the node as it should be. */
  async faults(): Promise<readonly string[]> {
    return (await this.#installer?.faults()) ?? [];
  }

  /** Stops installing; takes the plugin off the node when the agent is not to come back. */
  async leave(): Promise<ExitDecision> {
    const { config, cluster, clock, log } = this.#o;
    await this[Symbol.asyncDispose]();
    const { install, nodeName } = config;
    if (install === null) return { kind: "keep", why: "the plugin is not ours to take away" };
    const decision = await decideExit({
      cluster,
      namespace: install.podNamespace,
      daemonSet: install.daemonSet,
      nodeName,
      cleansAlways: install.cleansAlways,
      clock,
    });
    log.info(decision, "stopping: plugin and node rules");
    if (decision.kind === "clean")
      for (const fault of await uninstall(install, log))
        log.error({ fault }, "cannot take the plugin off the node");
    return decision;
  }

  #onReady(isReady: boolean): void {
    this.#o.metrics.installReady.set(isReady ? 1 : 0);
    if (isReady) {
      this.#blocker?.[Symbol.dispose]();
      this.#blocker = null;
    } else this.#blocker ??= this.#o.readiness.block("plugin installation");
  }

  /** What is installed stays. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
  }
}

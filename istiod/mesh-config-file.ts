// The mesh configuration while istiod runs: the file is looked at when its directory changes, and a
// version that cannot be used leaves the one in force.
import { readFileSync } from "node:fs";
import { dirname } from "node:path";
import { isDeepStrictEqual } from "node:util";
import type { Clock } from "#lib/base/clock.ts";
import type { Logger } from "#lib/obs/log.ts";
import { type MeshConfig, parseMeshConfigText } from "./mesh-config.ts";
import type { Metrics } from "./metrics.ts";
import { DirectoryTrigger } from "./watch/directory-trigger.ts";

export interface MeshConfigFileOptions {
  readonly path: string;
  /** What was read at the start. */
  readonly initial: MeshConfig;
  /** Settings from elsewhere that stand above the file's. */
  override(mesh: MeshConfig): MeshConfig;
  /** Puts it in force; throws when that is impossible, and then nothing has changed. */
  onChange(mesh: MeshConfig): void | Promise<void>;
  readonly metrics: Pick<Metrics, "meshConfigReloads">;
  readonly log: Logger;
  readonly clock: Clock;
}

export class MeshConfigFile {
  readonly #options: MeshConfigFileOptions;
  #inForce: MeshConfig;
  /** What was wrong last, so that each fault is reported once. */
  #fault = "";

  constructor(options: MeshConfigFileOptions) {
    this.#options = options;
    this.#inForce = options.initial;
  }

  /** Until `signal` aborts. */
  async watch(signal: AbortSignal): Promise<void> {
    const { path, clock, log } = this.#options;
    using trigger = new DirectoryTrigger(dirname(path), clock, (error) =>
      log.warn({ error, path }, "cannot watch the mesh configuration; polling"),
    );
    await this.look(); // what changed between the start and the watch
    while (!signal.aborted) {
      await trigger.changed(signal);
      if (!signal.aborted) await this.look();
    }
  }

  /** Reads the file now. */
  async look(): Promise<void> {
    const { path, override, onChange } = this.#options;
    const problems: string[] = [];
    try {
      const text = readFileSync(path, "utf8");
      // At the start it means "all defaults"; later it is a file that is being written.
      if (text.trim() === "") return this.#refuse(`MESH_CONFIG ${path} is empty`);
      const mesh = override(parseMeshConfigText(text, path, (problem) => problems.push(problem)));
      if (problems.length > 0) return this.#refuse(problems.join("; "));
      this.#fault = "";
      if (isDeepStrictEqual(mesh, this.#inForce)) return;
      await onChange(mesh);
      this.#inForce = mesh;
    } catch (error) {
      return this.#refuse(
        `MESH_CONFIG ${path}: ${error instanceof Error ? error.message : String(error)}`,
      );
    }
    this.#options.metrics.meshConfigReloads.inc({ result: "applied" });
    this.#options.log.info({ path }, "mesh configuration changed");
  }

  #refuse(reason: string): void {
    if (reason === this.#fault) return;
    this.#fault = reason;
    const { log, metrics, path } = this.#options;
    metrics.meshConfigReloads.inc({ result: "refused" });
    log.error({ path, reason }, "mesh configuration refused; the one in force stays");
  }
}

// The mesh configuration as a file while istiod runs: looked at when its directory changes.
import { readFileSync } from "node:fs";
import { dirname } from "node:path";
import type { Clock } from "#lib/base/clock.ts";
import { MeshConfigUpdates, type MeshConfigUpdatesOptions } from "./mesh-config-updates.ts";
import { DirectoryTrigger } from "./watch/directory-trigger.ts";

export interface MeshConfigFileOptions extends MeshConfigUpdatesOptions {
  readonly path: string;
  readonly clock: Clock;
}

export class MeshConfigFile {
  readonly #options: MeshConfigFileOptions;
  readonly #updates: MeshConfigUpdates;
  readonly #source: string;

  constructor(options: MeshConfigFileOptions) {
    this.#options = options;
    this.#source = `MESH_CONFIG ${options.path}`;
    this.#updates = new MeshConfigUpdates(this.#source, options);
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
    let text: string;
    try {
      text = readFileSync(this.#options.path, "utf8");
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      return this.#updates.refuse(`${this.#source}: ${reason}`);
    }
    await this.#updates.offer(text);
  }
}

// Versions of the mesh configuration as they come: good ones take effect, one that cannot be used is
// named and leaves the one in force.
import { isDeepStrictEqual } from "node:util";
import type { Logger } from "#lib/obs/log.ts";
import { type MeshConfig, parseMeshConfigText } from "./mesh-config.ts";
import type { Metrics } from "./metrics.ts";

export interface MeshConfigUpdatesOptions {
  /** What was read at the start. */
  readonly initial: MeshConfig;
  /** Settings from elsewhere that stand above it. */
  override(mesh: MeshConfig): MeshConfig;
  /** Puts it in force; throws when that is impossible, and then nothing has changed. */
  onChange(mesh: MeshConfig): void | Promise<void>;
  readonly metrics: Pick<Metrics, "meshConfigReloads">;
  readonly log: Logger;
}

export class MeshConfigUpdates {
  readonly #options: MeshConfigUpdatesOptions;
  /** For messages: `MESH_CONFIG /etc/mesh`. */
  readonly #source: string;
  #inForce: MeshConfig;
  /** What was wrong last, so that each fault is reported once. */
  #fault = "";

  constructor(source: string, options: MeshConfigUpdatesOptions) {
    this.#source = source;
    this.#options = options;
    this.#inForce = options.initial;
  }

  /** One call at a time. Never rejects. */
  async offer(text: string): Promise<void> {
    const { override, onChange, metrics, log } = this.#options;
    const problems: string[] = [];
    try {
      // At the start it means "all defaults"; later it is one that is being written.
      if (text.trim() === "") return this.refuse(`${this.#source} is empty`);
      const parsed = parseMeshConfigText(text, this.#source, (problem) => problems.push(problem));
      if (problems.length > 0) return this.refuse(problems.join("; "));
      const mesh = override(parsed);
      this.#fault = "";
      if (isDeepStrictEqual(mesh, this.#inForce)) return;
      await onChange(mesh);
      this.#inForce = mesh;
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      return this.refuse(`${this.#source}: ${reason}`);
    }
    metrics.meshConfigReloads.inc({ result: "applied" });
    log.info({ source: this.#source }, "mesh configuration changed");
  }

  /** There is no version to use, for this reason. */
  refuse(reason: string): void {
    if (reason === this.#fault) return;
    this.#fault = reason;
    const { log, metrics } = this.#options;
    metrics.meshConfigReloads.inc({ result: "refused" });
    log.error(
      { source: this.#source, reason },
      "mesh configuration refused; the one in force stays",
    );
  }
}

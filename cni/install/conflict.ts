// Somebody else writes the network configuration too. Once or twice is an upgrade; again and again is a
// contest that no side can win, and people should know with whom.
import type { Clock } from "#lib/base/clock.ts";
import type { Logger } from "#lib/obs/log.ts";

export interface Overwrite {
  /** Where our entry is to go now. */
  readonly file: string;
  /** Where it was. */
  readonly was: string;
  /** Other plugins of that file. */
  readonly plugins: readonly string[];
}

const CLOSE_MS = 5_000;
const SPACING_MS = 1_000;
const HITS_BEFORE_WARNING = 5;
/** Said again while it goes on. */
const WARNING_EVERY = 20;

const HINTS: readonly (readonly [RegExp, string])[] = [
  [/cilium/, "Cilium takes other plugins out: set cni.exclusive=false in its configuration"],
  [/multus/, "Multus writes its file from another one: name that one in CNI_CONF_NAME"],
];

export class ConflictWatch {
  readonly #clock: Clock;
  readonly #log: Logger;
  #last = Number.NEGATIVE_INFINITY;
  #hits = 0;

  constructor(clock: Clock, log: Logger) {
    this.#clock = clock;
    this.#log = log;
  }

  /** Called before the entry is written again; waits when that happens too often. */
  async note(overwrite: Overwrite, signal: AbortSignal): Promise<void> {
    const sinceLast = this.#clock.now() - this.#last;
    const { file, was, plugins } = overwrite;
    const who = componentOf(file, plugins);
    if (file !== was)
      this.#log.warn({ file, was, who }, "another file is the network configuration now");
    if (sinceLast >= CLOSE_MS) {
      this.#hits = 0;
      if (file === was) this.#log.warn({ file, who }, "the plugin was taken out of its file");
    } else {
      this.#hits++;
      if (this.#hits === HITS_BEFORE_WARNING || this.#hits % WARNING_EVERY === 0)
        this.#log.warn(
          { file, who, times: this.#hits, hint: hintFor(file, plugins) },
          "the plugin is taken out of the network configuration again and again",
        );
      await this.#clock.sleep(Math.max(0, SPACING_MS - sinceLast), signal);
    }
    this.#last = this.#clock.now();
  }
}

/** Whoever writes a file names it, or its plugins do. */
function componentOf(file: string, plugins: readonly string[]): string {
  const name = file.replace(/\.conf(list)?$/, "").replace(/^\d+[-_]?/, "");
  const main = plugins[0] ?? "";
  return main === "" || name === main ? name : `${name} (${plugins.join(", ")})`;
}

function hintFor(file: string, plugins: readonly string[]): string {
  const text = [file, ...plugins].join(" ");
  return (
    HINTS.find(([pattern]) => pattern.test(text))?.[1] ??
    "stop it from rewriting the file, or set ISTIO_OWNED_CNI_CONFIG=true"
  );
}

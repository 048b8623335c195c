// A pod that keeps trying a server (pods/prober.ts), and what it said last.
import type { KubeStage } from "./stage.ts";

const EVERY_MS = "10";
/** Some on each thread of a ztunnel. */
const HELD = "8";
const WAIT_MS = 30_000;

export interface Said {
  readonly event: string;
  /** ms since the epoch, by the clock all pods share with us. */
  readonly at: number;
}

/** Owns its pod. */
export class Prober implements AsyncDisposable {
  /** "let-in" or "refused": how the last new connection fared, and since when. */
  access: Said = { event: "", at: 0 };
  /** "held" or "closed": the connections it keeps open. */
  open: Said = { event: "", at: 0 };
  readonly #stage: KubeStage;
  readonly #namespace: string;
  readonly #name: string;
  readonly #abort = new AbortController();
  #reading: Promise<void> = Promise.resolve();
  #changed = Promise.withResolvers<void>();

  private constructor(stage: KubeStage, namespace: string, name: string) {
    this.#stage = stage;
    this.#namespace = namespace;
    this.#name = name;
  }

  /** @param target  host and port */
  static async start(
    stage: KubeStage,
    namespace: string,
    node: string,
    target: readonly [host: string, port: string],
  ): Promise<Prober> {
    const prober = new Prober(stage, namespace, `prober-on-${node}`);
    const args = [...target, EVERY_MS, HELD];
    await stage.createPod({ namespace, name: prober.#name, node, script: "prober", args });
    await stage.running(namespace, prober.#name);
    prober.#reading = prober.#read();
    return prober;
  }

  /** Resolves when this is what it said last. */
  async until(access: "let-in" | "refused", open: "held" | "closed"): Promise<void> {
    const deadline = AbortSignal.timeout(WAIT_MS);
    while (this.access.event !== access || this.open.event !== open) {
      if (deadline.aborted)
        throw new Error(
          `${this.#name}: wanted ${access} and ${open}, is ${this.access.event} and ${this.open.event}`,
        );
      const late = new Promise<void>((resolve) =>
        deadline.addEventListener("abort", () => resolve()),
      );
      await Promise.race([this.#changed.promise, late]);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#abort.abort();
    await this.#reading;
    await this.#stage.deletePod(this.#namespace, this.#name);
  }

  async #read(): Promise<void> {
    try {
      for await (const line of this.#stage.output(
        this.#namespace,
        this.#name,
        this.#abort.signal,
      )) {
        const said = JSON.parse(line) as Said;
        if (said.event === "let-in" || said.event === "refused") this.access = said;
        else this.open = said;
        this.#changed.resolve();
        this.#changed = Promise.withResolvers<void>();
      }
    } catch (error) {
      // shows as a wait in vain
      this.open = { event: `an output that broke off (${(error as Error).message})`, at: 0 };
    }
  }
}

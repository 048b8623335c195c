// A packet capture on an interface of the lab: tcpdump as an independent witness, or our own
// packet socket where the kernel does not let tcpdump start.
import { statSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Netns } from "./netns.ts";
import { tapPackets } from "./packet-tap.ts";
import { flowsOf, parsePcap, type Flow, type Packet } from "./pcap.ts";
import type { LabProcess } from "./process.ts";

export interface CaptureOptions {
  readonly netns: Netns;
  readonly interface: string;
  /** Where the pcap file goes. */
  readonly dir: string;
  /** A pcap filter such as `tcp port 15008`; tcpdump only. */
  readonly filter?: string;
}

/** The file is quiet for this long: everything sent so far has been written. */
const QUIET_MS = 60;
/** Traffic that never pauses is not waited for longer. */
const SETTLE_MS = 300;
let count = 0;

/** Runs from `start` to `stop`; can be read at any time. */
export class Capture implements AsyncDisposable {
  readonly file: string;
  #tcpdump: LabProcess | null = null;
  #stopTap: (() => void) | null = null;

  private constructor(file: string) {
    this.file = file;
  }

  static async start(options: CaptureOptions): Promise<Capture> {
    const file = join(options.dir, `capture-${++count}-${options.interface}.pcap`);
    const capture = new Capture(file);
    const filter = options.filter ?? "";
    // tcpdump writes to its standard output: it would drop privileges before opening a file itself
    const tcpdump = await options.netns.start(
      [
        "sh",
        "-c",
        `exec tcpdump -i ${options.interface} -U --immediate-mode -B 32768 -n -w - ${filter} >"$0"`,
        file,
      ],
      { name: `tcpdump ${options.interface}` },
    );
    try {
      await tcpdump.waitForOutput(/listening on/, 5_000);
      // it says so before it tries to change its user: the file header proves it got past that
      await tcpdump.waitUntil(() => sizeOf(file) > 0 || !tcpdump.running, "its file", 5_000);
      await sleep(20);
      if (!tcpdump.running) throw new Error(tcpdump.tail());
      capture.#tcpdump = tcpdump;
    } catch (error) {
      await tcpdump.stop();
      if (filter !== "" || !/Couldn't change to/.test(tcpdump.output)) throw error;
      capture.#stopTap = await tapPackets(options.netns, options.interface, file);
    }
    return capture;
  }

  /** What was captured so far, once the file has stopped growing. */
  async packets(): Promise<Packet[]> {
    await this.#settle();
    return parsePcap(await readFile(this.file));
  }

  async flows(): Promise<Flow[]> {
    return flowsOf(await this.packets());
  }

  /** Whether any connection carried these bytes in clear. */
  async contains(marker: string | Buffer): Promise<boolean> {
    return (await this.flows()).some((flow) => flow.bytes.includes(marker));
  }

  /** Ends the capture after what is under way has been written. The file stays. */
  async stop(): Promise<void> {
    await this.#settle();
    this.#tcpdump?.kill("SIGINT");
    await this.#tcpdump?.stop();
    this.#tcpdump = null;
    this.#stopTap?.();
    this.#stopTap = null;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }

  async #settle(): Promise<void> {
    if (this.#tcpdump === null && this.#stopTap === null) return;
    const deadline = Date.now() + SETTLE_MS;
    for (let size = -1; size !== sizeOf(this.file) && Date.now() < deadline; await sleep(QUIET_MS))
      size = sizeOf(this.file);
  }
}

function sizeOf(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.size ?? 0;
}

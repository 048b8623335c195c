// A second proxy pair to compare with in the same rounds: any program that follows this calling convention.
// `node pair.mjs in` listens on 20008 and forwards to SPIKE_TARGET; `node pair.mjs out` listens on
// 127.0.0.1:20001 and forwards to `in` at PEER. Both find c.pem and k.pem and `koffi` where they run.
// Its pods carry the rules of pods in the mesh, so that the kernel does as much for its packets as for ours.
import { copyFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { testCa, testPair } from "#lib/pki/test-ca.ts";
import type { LabPod } from "../../lab/pod.ts";
import type { LabProcess } from "../../lab/process.ts";
import { waitForPort } from "../../lab/probe.ts";
import { scratchDir } from "./scratch-dir.ts";
import type { Path } from "./stage.ts";

/** Its path's name in the table. */
export const YARDSTICK = "yardstick";
/** The same pair, its client captured as a pod in the mesh is: redirected on its way to the server's address. */
export const CAPTURED = "captured";
const TUNNEL_PORT = 20_008;
/** The mark of a ztunnel's own packets, Istio's PACKET_MARK. */
const PACKET_MARK = 1337;
/** Makes the pair's own connections look like a ztunnel's to the rules: they are let through. */
const EXEMPT = `table inet bench-exempt {
  chain prerouting {
    type filter hook prerouting priority mangle - 1;
    tcp dport ${TUNNEL_PORT} meta mark set ${PACKET_MARK}
  }
  chain output {
    type route hook output priority mangle - 1;
    tcp dport ${TUNNEL_PORT} meta mark set ${PACKET_MARK}
  }
}
`;
const ENTRY = { host: "127.0.0.1", port: 20_001 };
const START_MS = 5_000;

const capture = (serverIp: string, port: number): string => `table ip bench-capture {
  chain output {
    type nat hook output priority -110;
    ip daddr ${serverIp} tcp dport ${port} meta mark != ${PACKET_MARK} redirect to :${ENTRY.port}
  }
}
`;

export class Yardstick implements AsyncDisposable {
  readonly #client: LabPod;
  readonly #server: LabPod;
  readonly #port: number;
  readonly #dir: string;
  #out: LabProcess | null = null;
  #in: LabProcess | null = null;

  private constructor(client: LabPod, server: LabPod, port: number, dir: string) {
    this.#client = client;
    this.#server = server;
    this.#port = port;
    this.#dir = dir;
  }

  static async start(
    file: string,
    client: LabPod,
    server: LabPod,
    port: number,
  ): Promise<Yardstick> {
    const dir = await scratchDir();
    copyFileSync(file, join(dir, "pair.mjs"));
    symlinkSync(resolve(import.meta.dirname, "../../node_modules"), join(dir, "node_modules"));
    const pair = await testPair(await testCa(), ["spiffe://cluster.local/ns/bench/sa/pair"]);
    writeFileSync(join(dir, "c.pem"), pair.certChainPem);
    writeFileSync(join(dir, "k.pem"), pair.privateKeyPem);
    const yardstick = new Yardstick(client, server, port, dir);
    await client.netns.run(["nft", "-f", "-"], { input: capture(server.ip, port) });
    await yardstick.restart();
    return yardstick;
  }

  /** Gives `pod` the packet rules of `model`. */
  static async copyRules(model: LabPod, pod: LabPod): Promise<void> {
    const { stdout } = await model.netns.run(["nft", "-s", "list", "ruleset"]);
    await pod.netns.run(["nft", "-f", "-"], { input: stdout + EXEMPT });
  }

  get paths(): Path[] {
    const path = (name: string, target: Path["target"]): Path => ({
      name,
      from: this.#client,
      to: this.#server,
      target,
      carriers: [
        { side: "client", pid: () => this.#out?.pid ?? 0 },
        { side: "server", pid: () => this.#in?.pid ?? 0 },
      ],
    });
    return [path(YARDSTICK, ENTRY), path(CAPTURED, { host: this.#server.ip, port: this.#port })];
  }

  /** A new pair that has carried nothing yet. */
  async restart(): Promise<void> {
    await this.#stop();
    const command = (side: string): string[] => [
      "sh",
      "-c",
      'ulimit -n "$(ulimit -Hn)"; cd "$0" && exec "$@"',
      this.#dir,
      process.execPath,
      "pair.mjs",
      side,
    ];
    this.#in = await this.#server.start(command("in"), {
      name: "pair-in",
      env: { SPIKE_TARGET: `127.0.0.1:${this.#port}` },
    });
    await waitForPort(this.#server.netns, "127.0.0.1", TUNNEL_PORT, START_MS);
    this.#out = await this.#client.start(command("out"), {
      name: "pair-out",
      env: { PEER: this.#server.ip },
    });
    await waitForPort(this.#client.netns, ENTRY.host, ENTRY.port, START_MS);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stop();
    rmSync(this.#dir, { recursive: true, force: true });
  }

  async #stop(): Promise<void> {
    await Promise.all([this.#out?.[Symbol.asyncDispose](), this.#in?.[Symbol.asyncDispose]()]);
  }
}

// Delay on kernels without netem: the port's traffic goes through a VXLAN pair whose UDP packets pass
// a relay process, which holds each one back.
//
//   node ── port ── bridge "slow-N" ── vxlan 2N ──UDP──▶ relay ──UDP──▶ vxlan 2N+1 ── bridge "wire"
import { join } from "node:path";
import { LabError } from "./errors.ts";
import { Netns } from "./netns.ts";
import type { LabProcess } from "./process.ts";
import { run } from "./process.ts";

const SWITCH_IP = "10.99.0.1";
const RELAY_IP = "10.99.0.2";
const VXLAN_PORT = 4789;

/** Owns the relay's namespace and process; borrows the switch. */
export class DelayRelay implements AsyncDisposable {
  readonly #switch: Netns;
  readonly #bridge: string;
  readonly #netns: Netns;
  readonly #process: LabProcess;
  /** Slot number by port; the slot's VXLAN identifiers are 2N and 2N+1. */
  readonly #slots = new Map<string, number>();
  #nextSlot = 1;

  private constructor(switchNetns: Netns, bridge: string, netns: Netns, process: LabProcess) {
    this.#switch = switchNetns;
    this.#bridge = bridge;
    this.#netns = netns;
    this.#process = process;
  }

  static async create(switchNetns: Netns, bridge: string): Promise<DelayRelay> {
    await using undo = new AsyncDisposableStack();
    const netns = undo.use(await Netns.create("relay"));
    // room for a full frame and its VXLAN header without fragments
    await run([
      "ip",
      "link",
      "add",
      "relay",
      "netns",
      switchNetns.name,
      "mtu",
      "9000",
      "type",
      "veth",
      "peer",
      "name",
      "eth0",
      "netns",
      netns.name,
      "mtu",
      "9000",
    ]);
    await netns.ip([`address add ${RELAY_IP}/24 dev eth0`, "link set dev eth0 up"]);
    await switchNetns.ip([`address add ${SWITCH_IP}/24 dev relay`, "link set dev relay up"]);
    const relay = undo.use(
      await netns.start(
        [
          process.execPath,
          join(import.meta.dirname, "delay-relay-main.ts"),
          RELAY_IP,
          String(VXLAN_PORT),
        ],
        {
          name: "delay relay",
        },
      ),
    );
    await relay.waitForOutput(/^ready$/m);
    undo.move();
    return new DelayRelay(switchNetns, bridge, netns, relay);
  }

  /** Puts the relay between `port` and the bridge. @throws {LabError} `UNSUPPORTED` without vxlan */
  async insert(port: string, delayMs: number, jitterMs: number): Promise<void> {
    const slot = this.#nextSlot++;
    this.#process.write(`${JSON.stringify({ slot, delayMs, jitterMs })}\n`);
    const vxlan = (id: number): string =>
      `link add vx-${id} mtu 1500 type vxlan id ${id} remote ${RELAY_IP} dstport ${VXLAN_PORT} nolearning`;
    try {
      await this.#switch.ip([
        vxlan(2 * slot),
        vxlan(2 * slot + 1),
        // one UDP packet per frame: segments must be cut before they are wrapped
        `link set dev vx-${2 * slot} gso_max_segs 1 up`,
        `link set dev vx-${2 * slot + 1} gso_max_segs 1 up`,
        `link add slow-${slot} type bridge stp_state 0 mcast_snooping 0`,
        `link set dev slow-${slot} up`,
        `link set dev vx-${2 * slot} master slow-${slot}`,
        `link set dev vx-${2 * slot + 1} master ${this.#bridge}`,
        `link set dev ${port} master slow-${slot}`,
      ]);
    } catch (cause) {
      throw new LabError(
        "UNSUPPORTED",
        "Delay on the link needs sch_netem or vxlan in this kernel",
        { cause },
      );
    }
    this.#slots.set(port, slot);
  }

  async remove(port: string): Promise<void> {
    const slot = this.#slots.get(port);
    if (slot === undefined) return;
    this.#slots.delete(port);
    await this.#switch.ip([
      `link set dev ${port} master ${this.#bridge}`,
      `link delete dev slow-${slot}`,
      `link delete dev vx-${2 * slot}`,
      `link delete dev vx-${2 * slot + 1}`,
    ]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process[Symbol.asyncDispose]();
    await this.#netns[Symbol.asyncDispose]();
  }
}

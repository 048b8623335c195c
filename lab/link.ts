// The link between the nodes: a bridge in a namespace of its own, so that every port can be
// captured, cut, slowed down or made lossy without touching a node.
import { withLinkPrefix } from "./address-plan.ts";
import { Capture, type CaptureOptions } from "./capture.ts";
import { LabError } from "./errors.ts";
import { DelayRelay } from "./delay-relay.ts";
import { Netns } from "./netns.ts";
import { run } from "./process.ts";

const BRIDGE = "wire";

export interface Impairment {
  /** Added to everything that passes the port, in each direction. */
  readonly delayMs?: number;
  /** Each packet is delayed by up to this much more or less. */
  readonly jitterMs?: number;
  /** Share of packets dropped, each direction: 0.01 is one in a hundred. */
  readonly loss?: number;
}

/** Owns the switch's namespace; borrows those it connects. */
export class Link implements AsyncDisposable {
  readonly #netns: Netns;
  readonly #stateDir: string;
  /** Interface name by port name. */
  readonly #ports = new Map<string, string>();
  readonly #cut = new Set<string>();
  readonly #loss = new Map<string, number>();
  readonly #delayed = new Map<string, "netem" | "relay">();
  #relay: DelayRelay | null = null;
  #hasNetem: boolean | null = null;

  private constructor(netns: Netns, stateDir: string) {
    this.#netns = netns;
    this.#stateDir = stateDir;
  }

  static async create(stateDir: string): Promise<Link> {
    const netns = await Netns.create("switch", {
      "net/bridge/bridge-nf-call-iptables": "0",
      "net/bridge/bridge-nf-call-ip6tables": "0",
    });
    await netns.ip([
      // no spanning tree, no snooping: a new port forwards at once
      `link add ${BRIDGE} type bridge stp_state 0 mcast_snooping 0`,
      `link set ${BRIDGE} up`,
    ]);
    return new Link(netns, stateDir);
  }

  get netns(): Netns {
    return this.#netns;
  }

  /** Gives `netns` an interface `eth0` with these addresses on the link, behind a port of that name. */
  async connect(name: string, netns: Netns, addresses: readonly string[]): Promise<void> {
    const port = netns.name;
    this.#ports.set(name, port);
    await run([
      "ip",
      "link",
      "add",
      "eth0",
      "netns",
      netns.name,
      "type",
      "veth",
      "peer",
      "name",
      port,
      "netns",
      this.#netns.name,
    ]);
    await this.#netns.ip([`link set dev ${port} master ${BRIDGE} up`]);
    await netns.ip([
      ...addresses.map((a) => `address add ${withLinkPrefix(a)} dev eth0`),
      "link set eth0 up",
    ]);
  }

  /** Starts capturing what passes one port (a node's name), or the whole link. */
  capture(
    options: Omit<CaptureOptions, "netns" | "interface" | "dir"> & { readonly port?: string } = {},
  ): Promise<Capture> {
    const { port, ...rest } = options;
    const device = port === undefined ? BRIDGE : this.#deviceOf(port);
    return Capture.start({ ...rest, netns: this.#netns, interface: device, dir: this.#stateDir });
  }

  /** Nothing passes the port any more, and nobody is told: as if the cable were pulled behind a switch. */
  async cut(port: string): Promise<void> {
    this.#cut.add(this.#deviceOf(port));
    await this.#writeFilter();
  }

  async restore(port: string): Promise<void> {
    this.#cut.delete(this.#deviceOf(port));
    await this.#writeFilter();
  }

  /**
   * Replaces the port's impairment; `{}` removes it.
   * Delay uses `tc netem`, or where the kernel lacks it a relay in user space (lower throughput).
   * @throws {LabError} `UNSUPPORTED` when the kernel has neither netem nor vxlan
   */
  async impair(name: string, { delayMs = 0, jitterMs = 0, loss = 0 }: Impairment): Promise<void> {
    const port = this.#deviceOf(name);
    if (!(delayMs >= 0 && jitterMs >= 0 && jitterMs <= delayMs && loss >= 0 && loss <= 1))
      throw new LabError(
        "CONFLICT",
        `No such impairment: delay ${delayMs} ± ${jitterMs} ms, loss ${loss}`,
      );
    this.#loss.set(port, loss);
    await this.#writeFilter();
    await this.#undelay(port);
    if (delayMs === 0) return;
    if (await this.#netem()) {
      const netem = `netem delay ${delayMs}ms ${jitterMs}ms limit 100000`.split(" ");
      await this.#netns.run(["tc", "qdisc", "replace", "dev", port, "root", ...netem]);
      // what the node sends leaves the switch on other ports, so its own end is delayed as well
      await run([
        "ip",
        "netns",
        "exec",
        port,
        "tc",
        "qdisc",
        "replace",
        "dev",
        "eth0",
        "root",
        ...netem,
      ]);
      this.#delayed.set(port, "netem");
    } else {
      this.#relay ??= await DelayRelay.create(this.#netns, BRIDGE);
      await this.#relay.insert(port, delayMs, jitterMs);
      this.#delayed.set(port, "relay");
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#relay?.[Symbol.asyncDispose]();
    await this.#netns[Symbol.asyncDispose]();
  }

  async #undelay(port: string): Promise<void> {
    const how = this.#delayed.get(port);
    this.#delayed.delete(port);
    if (how === "relay") await this.#relay?.remove(port);
    if (how !== "netem") return;
    await this.#netns.run(["tc", "qdisc", "delete", "dev", port, "root"]);
    await run(["ip", "netns", "exec", port, "tc", "qdisc", "delete", "dev", "eth0", "root"]);
  }

  /** Whether this kernel has netem; asked once, with a real qdisc on loopback. */
  async #netem(): Promise<boolean> {
    if (this.#hasNetem === null) {
      const probe = ["tc", "qdisc", "add", "dev", "lo", "root", "netem", "delay", "1ms"];
      this.#hasNetem = (await this.#netns.run(probe, { allowFailure: true })).code === 0;
      if (this.#hasNetem) await this.#netns.run(["tc", "qdisc", "delete", "dev", "lo", "root"]);
    }
    return this.#hasNetem;
  }

  async #writeFilter(): Promise<void> {
    const rules = [...this.#cut].flatMap((p) => [`iifname "${p}" drop`, `oifname "${p}" drop`]);
    for (const [port, loss] of this.#loss) {
      const perTenThousand = Math.round(loss * 10_000);
      if (perTenThousand === 0) continue;
      // nft refuses a comparison that always holds
      const drop =
        perTenThousand === 10_000 ? "drop" : `numgen random mod 10000 < ${perTenThousand} drop`;
      rules.push(`iifname "${port}" ${drop}`, `oifname "${port}" ${drop}`);
    }
    const input = [
      "table bridge link {}",
      "delete table bridge link",
      "table bridge link {",
      "chain forward {",
      "type filter hook forward priority 0",
      ...rules,
      "}",
      "}",
    ];
    await this.#netns.run(["nft", "-f", "-"], { input: `${input.join("\n")}\n` });
  }

  #deviceOf(port: string): string {
    const device = this.#ports.get(port);
    if (device !== undefined) return device;
    const known = [...this.#ports.keys()].join(", ");
    throw new LabError("NOT_FOUND", `The link has no port ${port}; it has ${known}`);
  }
}

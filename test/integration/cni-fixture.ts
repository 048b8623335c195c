// Three network namespaces for the redirection tests: a node that routes between a pod and a peer.
// Sockets are opened straight inside them by this process; no helper programs run there.
import { execFileSync } from "node:child_process";
import { parseIp, type Ip, type SocketAddr } from "#lib/net/ip.ts";
import { closeFd, openNetns, type NetnsFd } from "#lib/sys/netns.ts";
import {
  accept,
  bindFd,
  connectFd,
  listenTcp,
  originalDst,
  setTransparent,
  socketError,
  tcpSocket,
} from "#lib/sys/socket.ts";
import { readSync, writeSync } from "node:fs";

export const ADDRESS = {
  ipv4: { pod: parseIp("10.99.1.2"), peer: parseIp("10.99.2.2") },
  ipv6: { pod: parseIp("fd99:1::2"), peer: parseIp("fd99:2::2") },
} as const;

/** Why the tests that need namespaces cannot run here; `false` when they can. */
export function cannotMakeNamespaces(): string | false {
  const name = `cni-${process.pid}-probe`;
  try {
    execFileSync("ip", ["netns", "add", name], { stdio: "pipe" });
    execFileSync("ip", ["netns", "del", name], { stdio: "pipe" });
    return false;
  } catch (error) {
    if (process.env["AMBIT_REQUIRE_NETNS"] === "1") throw error;
    return `needs the right to make network namespaces: ${String(error)}`;
  }
}

export class PodNetwork implements Disposable {
  readonly node: NetnsFd;
  readonly pod: NetnsFd;
  readonly peer: NetnsFd;
  readonly #names: readonly string[];
  readonly #fds: number[] = [];

  constructor(tag: string) {
    const [node, pod, peer] = ["node", "pod", "peer"].map(
      (role) => `cni-${process.pid}-${tag}-${role}`,
    ) as [string, string, string];
    this.#names = [node, pod, peer];
    const lines = [node, pod, peer].flatMap((n) => [`netns add ${n}`]);
    ip(lines);
    for (const [name, subnet] of [
      [pod, 1],
      [peer, 2],
    ] as const) {
      ip([
        `link add veth${subnet} netns ${node} type veth peer name eth0 netns ${name}`,
        `-n ${name} link set lo up`,
        `-n ${name} addr add 10.99.${subnet}.2/24 dev eth0`,
        `-n ${name} addr add fd99:${subnet}::2/64 dev eth0 nodad`,
        `-n ${name} link set eth0 up`,
        `-n ${node} addr add 10.99.${subnet}.1/24 dev veth${subnet}`,
        `-n ${node} addr add fd99:${subnet}::1/64 dev veth${subnet} nodad`,
        `-n ${node} link set veth${subnet} up`,
        `-n ${name} route add default via 10.99.${subnet}.1`,
        `-n ${name} -6 route add default via fd99:${subnet}::1`,
      ]);
    }
    ip([`-n ${node} link set lo up`]);
    execFileSync("ip", [
      "netns",
      "exec",
      node,
      "sh",
      "-c",
      "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding",
    ]);
    this.node = openNetns(`/run/netns/${node}`);
    this.pod = openNetns(`/run/netns/${pod}`);
    this.peer = openNetns(`/run/netns/${peer}`);
  }

  /** Where a runtime would say the namespace is. */
  path(where: "node" | "pod" | "peer"): string {
    return `/run/netns/${this.#names.find((n) => n.endsWith(`-${where}`))}`;
  }

  /** Runs a command inside; its output. */
  exec(where: "node" | "pod" | "peer", command: string): string {
    const name = this.#names.find((n) => n.endsWith(`-${where}`)) ?? "";
    return execFileSync("ip", ["netns", "exec", name, "sh", "-c", command], { encoding: "utf8" });
  }

  /** A listener, closed with the network. */
  listen(
    ns: NetnsFd,
    port: number,
    options: { mark?: number; transparent?: boolean } = {},
  ): number {
    const fd = listenTcp({ ip: parseIp("::"), port, netns: ns, ...options });
    this.#fds.push(fd);
    return fd;
  }

  /** Starts a connection; the descriptor is closed with the network. */
  connect(ns: NetnsFd, to: SocketAddr, options: { mark?: number; from?: Ip } = {}): number {
    const family = to.ip.includes(":") ? "ipv6" : "ipv4";
    const fd = tcpSocket({
      family,
      netns: ns,
      ...(options.mark === undefined ? {} : { mark: options.mark }),
    });
    this.#fds.push(fd);
    if (options.from !== undefined) {
      assertZero(setTransparent(fd, options.from), "transparent");
      assertZero(bindFd(fd, { ip: options.from, port: 0 }), "bind");
    }
    assertZero(connectFd(fd, to), "connect");
    return fd;
  }

  /** The next connection of any of `listeners`, by name. */
  async accepted<Name extends string>(
    listeners: Readonly<Record<Name, number>>,
  ): Promise<{
    readonly at: Name;
    readonly fd: number;
    readonly peer: SocketAddr;
    readonly originalDst: SocketAddr;
  }> {
    return until("a connection", () => {
      for (const at of Object.keys(listeners) as Name[]) {
        const got = accept(listeners[at]);
        if (got === null) continue;
        this.#fds.push(got.fd);
        return { at, fd: got.fd, peer: got.peer, originalDst: originalDst(got.fd) };
      }
      return null;
    });
  }

  [Symbol.dispose](): void {
    for (const fd of this.#fds.splice(0)) closeFd(fd);
    for (const fd of [this.node, this.pod, this.peer]) closeFd(fd);
    for (const name of this.#names) execFileSync("ip", ["netns", "del", name]);
  }
}

/** Sends on one end, waits for it on the other. */
export async function exchange(from: number, to: number, text: string): Promise<string> {
  await until("the connection", () =>
    socketError(from) === 0 && tryWrite(from, text) ? true : null,
  );
  return until("bytes", () => {
    const buffer = Buffer.alloc(64);
    try {
      const got = readSync(to, buffer);
      return got > 0 ? buffer.toString("utf8", 0, got) : null;
    } catch {
      return null;
    }
  });
}

function tryWrite(fd: number, text: string): boolean {
  try {
    return writeSync(fd, text) > 0;
  } catch {
    return false;
  }
}

/** Polls for a condition. @throws after 3 s */
export async function until<T>(what: string, look: () => T | null): Promise<T> {
  const deadline = Date.now() + 10_000;
  for (;;) {
    const seen = look();
    if (seen !== null) return seen;
    if (Date.now() > deadline) throw new Error(`Waited 10 s for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

function assertZero(errno: number, what: string): void {
  if (errno !== 0) throw new Error(`${what}: errno ${errno}`);
}

function ip(lines: readonly string[]): void {
  for (const line of lines) execFileSync("ip", line.split(" "));
}

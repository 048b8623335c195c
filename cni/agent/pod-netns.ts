// A pod's network namespace, held open by a descriptor. While it is held the namespace cannot go and
// its inode number cannot be given to another: the pair (device, inode) stays meaningful.
import { readFileSync } from "node:fs";
import { tryParseIp, type Ip } from "#lib/net/ip.ts";
import { closeFd, inNetns, netnsId, openNetns, type NetnsFd } from "#lib/sys/netns.ts";

/** Owns its descriptor. */
export class PodNetns implements Disposable {
  /** `device:inode`. */
  readonly id: string;
  /** Where it was found, as this process sees it. */
  readonly path: string;
  readonly #fd: NetnsFd;
  #isClosed = false;

  private constructor(fd: NetnsFd, path: string) {
    this.#fd = fd;
    this.path = path;
    this.id = netnsId(fd);
  }

  /** @throws {SysError} when nothing is there */
  static open(path: string): PodNetns {
    return new PodNetns(openNetns(path), path);
  }

  /** Valid until `dispose`, and only for calls that start before the next await. */
  get fd(): NetnsFd {
    if (this.#isClosed) throw new Error(`The namespace ${this.path} is closed already`);
    return this.#fd;
  }

  /** A second descriptor of the same namespace; the caller owns it. */
  duplicate(): NetnsFd {
    return openNetns(`/proc/self/fd/${this.fd}`);
  }

  /** Whether one of `ips` is an address inside. */
  holdsAny(ips: readonly Ip[]): boolean {
    if (ips.length === 0) return false;
    const inside = this.addresses();
    return ips.some((ip) => inside.has(ip));
  }

  /** Addresses inside, whatever the state of their links. */
  addresses(): ReadonlySet<Ip> {
    return inNetns(this.fd, () => {
      const v4 = readOrEmpty("/proc/thread-self/net/fib_trie");
      const v6 = readOrEmpty("/proc/thread-self/net/if_inet6");
      return new Set([...localsOfFibTrie(v4), ...addressesOfIfInet6(v6)]);
    });
  }

  [Symbol.dispose](): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    closeFd(this.#fd);
  }
}

/** `|-- 10.0.0.2` followed by `/32 host LOCAL`. */
export function localsOfFibTrie(text: string): Ip[] {
  const found: Ip[] = [];
  let address = "";
  for (const line of text.split("\n")) {
    const leaf = /\|-- (\S+)$/.exec(line);
    if (leaf !== null) address = leaf[1] ?? "";
    else if (/\/32 host LOCAL/.test(line)) {
      const ip = tryParseIp(address);
      if (ip !== null) found.push(ip);
    }
  }
  return found;
}

/** 32 hexadecimal digits, then index, prefix length, scope, flags, interface. */
export function addressesOfIfInet6(text: string): Ip[] {
  return text
    .split("\n")
    .map((line) => /^([0-9a-f]{32})\s/.exec(line)?.[1]?.match(/.{4}/g)?.join(":") ?? "")
    .map(tryParseIp)
    .filter((ip) => ip !== null);
}

function readOrEmpty(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch {
    return ""; // a kernel without IPv6
  }
}

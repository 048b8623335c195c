// One family's addresses for automatic allocation: the next free one after the last, round and round.
import { type Cidr, cidrContainsBytes } from "#lib/net/cidr.ts";
import { type Ip, ipFromBytes, ipToBytes } from "#lib/net/ip.ts";

interface Range {
  readonly first: bigint;
  readonly last: bigint;
}

export class AddressPool {
  readonly #prefix: Cidr;
  readonly #range: Range;
  readonly #used = new Set<bigint>();
  /** Ranges that specs name: not ours to give while they do. */
  #reserved: readonly Range[] = [];
  #next: bigint;

  /** The first usable address is the one after the network's own. */
  constructor(prefix: Cidr) {
    this.#prefix = prefix;
    const { first, last } = rangeOf(prefix);
    this.#range = { first: first + 1n, last };
    this.#next = first + 1n;
  }

  /** Is this an address of the pool's family and prefix? */
  contains(ip: Ip): boolean {
    return cidrContainsBytes(this.#prefix, ipToBytes(ip));
  }

  /** Replaces what is reserved; ranges of the other family and those outside do not matter. */
  reserve(ranges: readonly Cidr[]): void {
    const own = this.#range;
    this.#reserved = ranges
      .filter((cidr) => cidr.bytes.length === this.#prefix.bytes.length)
      .map(rangeOf)
      .filter(({ first, last }) => first <= own.last && last >= own.first);
  }

  isReserved(ip: Ip): boolean {
    const bytes = ipToBytes(ip);
    return bytes.length === this.#prefix.bytes.length && this.#reservedAt(toInt(bytes)) !== null;
  }

  /** Never given out from now on, until freed. Addresses outside do not matter. */
  use(ip: Ip): void {
    if (this.contains(ip)) this.#used.add(toInt(ipToBytes(ip)));
  }

  free(ip: Ip): void {
    if (this.contains(ip)) this.#used.delete(toInt(ipToBytes(ip)));
  }

  /** Frees all but these. */
  keepOnly(ips: Iterable<Ip>): void {
    this.#used.clear();
    for (const ip of ips) this.use(ip);
  }

  /** @returns `null` when all are in use. Each step passes a used address or a reserved range, so it ends. */
  take(): Ip | null {
    const { first, last } = this.#range;
    let at = this.#next;
    for (let rounds = 0; ; ) {
      if (at > last) {
        if (++rounds === 2) return null;
        at = first;
        continue;
      }
      const reserved = this.#reservedAt(at);
      if (reserved !== null) at = reserved.last + 1n;
      else if (this.#used.has(at)) at++;
      else {
        this.#used.add(at);
        this.#next = at + 1n;
        return ipFromBytes(toBytes(at, this.#prefix.bytes.length));
      }
    }
  }

  #reservedAt(at: bigint): Range | null {
    return this.#reserved.find(({ first, last }) => first <= at && at <= last) ?? null;
  }
}

function rangeOf({ bytes, bits }: Cidr): Range {
  const first = toInt(bytes);
  return { first, last: first + (1n << BigInt(bytes.length * 8 - bits)) - 1n };
}

function toInt(bytes: Uint8Array): bigint {
  return bytes.reduce((sum, byte) => (sum << 8n) | BigInt(byte), 0n);
}

function toBytes(value: bigint, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = length - 1, rest = value; i >= 0; i--, rest >>= 8n) bytes[i] = Number(rest & 0xffn);
  return bytes;
}

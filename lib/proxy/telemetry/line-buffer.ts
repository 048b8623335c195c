// Log lines as bytes: parts are copied once, straight to where the main thread reads them.

import { isIpv6, type SocketAddr } from "#lib/net/ip.ts";

/** Room for a batch of lines; longer ones make it grow. */
const START_SIZE = 65_536;
/** Of 2^53. */
const MAX_DIGITS = 16;

/** Owns one buffer until `take` gives it away. */
export class LineBuffer {
  #bytes: Buffer = Buffer.allocUnsafeSlow(START_SIZE);
  #end = 0;
  lines = 0;

  /** Hot path. A short text of plain ASCII, best one that is not glued together: the loop would flatten it first. */
  ascii(text: string): void {
    if (this.#end + text.length > this.#bytes.length) this.#grow(text.length);
    const bytes = this.#bytes;
    let end = this.#end;
    for (let i = 0; i < text.length; i++) bytes[end++] = text.charCodeAt(i);
    this.#end = end;
  }

  /** Hot path. A whole number from 0 to 2^53, in decimal. */
  decimal(value: number): void {
    if (this.#end + MAX_DIGITS > this.#bytes.length) this.#grow(MAX_DIGITS);
    const bytes = this.#bytes;
    let length = 1;
    for (let rest = value; rest >= 10; rest = Math.floor(rest / 10)) length++;
    this.#end += length;
    let rest = value;
    for (let at = this.#end - 1; length > 0; length--, at--) {
      const shorter = Math.floor(rest / 10);
      bytes[at] = 48 + (rest - shorter * 10); // beyond 2^53 the sum would round
      rest = shorter;
    }
  }

  /** Hot path. As `formatSocketAddr` writes it. */
  address({ ip, port }: SocketAddr): void {
    const isBracketed = isIpv6(ip);
    if (isBracketed) this.ascii("[");
    this.ascii(ip);
    this.ascii(isBracketed ? "]:" : ":");
    this.decimal(port);
  }

  /** Any text. */
  text(text: string): void {
    const most = text.length * 3;
    if (this.#end + most > this.#bytes.length) this.#grow(most);
    this.#end += this.#bytes.write(text, this.#end, "utf8");
  }

  /** Hot path. Bytes made earlier; borrowed. */
  raw(bytes: Uint8Array): void {
    if (this.#end + bytes.length > this.#bytes.length) this.#grow(bytes.length);
    this.#bytes.set(bytes, this.#end);
    this.#end += bytes.length;
  }

  /** Closes a line. */
  endLine(): void {
    this.ascii("\n");
    this.lines++;
  }

  /** The lines so far, in memory of their own that may be transferred. */
  take(): Uint8Array<ArrayBuffer> {
    const taken = new Uint8Array(this.#end);
    taken.set(this.#bytes.subarray(0, this.#end));
    this.#end = 0;
    this.lines = 0;
    return taken;
  }

  #grow(atLeast: number): void {
    const larger = Buffer.allocUnsafeSlow((this.#bytes.length + atLeast) * 2);
    this.#bytes.copy(larger, 0, 0, this.#end);
    this.#bytes = larger;
  }
}

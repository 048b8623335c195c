// Log lines as bytes: parts are copied once, straight to where the main thread reads them.

/** Room for a batch of lines; longer ones make it grow. */
const START_SIZE = 65_536;

/** Owns one buffer until `take` gives it away. */
export class LineBuffer {
  #bytes: Buffer = Buffer.allocUnsafeSlow(START_SIZE);
  #end = 0;
  lines = 0;

  /** Hot path. Text of plain ASCII. */
  ascii(text: string): void {
    if (this.#end + text.length > this.#bytes.length) this.#grow(text.length);
    this.#end += this.#bytes.write(text, this.#end, "latin1");
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

// Cuts a stream of bytes into lines: one JSON document each, as a watch sends them.

/** Larger than any object etcd stores (1.5 MiB by default), with room for how it is written out. */
const MAX_LINE_BYTES = 16 * 1024 * 1024;
const NEWLINE = 0x0a;

export class JsonLines {
  /** The pieces of the line that has no end yet. */
  #rest: Buffer[] = [];
  #restBytes = 0;

  /** The complete lines that `chunk` ends. @throws {RangeError} when a line grows past the bound */
  push(chunk: Buffer): string[] {
    const lines: string[] = [];
    let from = 0;
    for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, from)) {
      const line = this.#finish(chunk.subarray(from, at));
      if (line !== "") lines.push(line);
      from = at + 1;
    }
    if (from < chunk.length) {
      const piece = chunk.subarray(from);
      this.#restBytes += piece.length;
      if (this.#restBytes > MAX_LINE_BYTES)
        throw new RangeError(`a line of more than ${MAX_LINE_BYTES} bytes`);
      this.#rest.push(piece);
    }
    return lines;
  }

  /** What came after the last newline: empty unless the stream broke off. */
  get hasRest(): boolean {
    return this.#restBytes > 0;
  }

  #finish(end: Buffer): string {
    if (this.#restBytes === 0) return end.toString("utf8").trim();
    const whole = Buffer.concat([...this.#rest, end]);
    this.#rest = [];
    this.#restBytes = 0;
    return whole.toString("utf8").trim();
  }
}

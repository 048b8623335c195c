// One line on standard error that says what is being measured; nothing when it is no terminal but the titles.

export class Progress {
  readonly #isTerminal = process.stderr.isTTY;
  readonly #started = performance.now();

  phase(text: string): void {
    const seconds = Math.round((performance.now() - this.#started) / 1_000);
    process.stderr.write(`${this.#isTerminal ? "\r\x1b[K" : ""}${seconds} s: ${text}\n`);
  }

  step(text: string): void {
    if (this.#isTerminal) process.stderr.write(`\r\x1b[K  ${text}`);
  }

  end(): void {
    if (this.#isTerminal) process.stderr.write("\r\x1b[K");
  }
}

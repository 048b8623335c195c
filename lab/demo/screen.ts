// What the demo prints: a numbered line for each step, what was done and what was seen below it. On a
// terminal the running step moves; elsewhere every line is printed once.

const FRAMES = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];
const FRAME_MS = 80;
const BAR_WIDTH = 24;

export interface Line {
  /** `did`: a command or an action; `saw`: an observation. */
  readonly kind: "did" | "saw" | "text";
  readonly text: string;
}

export class Screen {
  readonly #out: NodeJS.WriteStream;
  readonly #moves: boolean;
  readonly #colours: boolean;
  readonly #total: number;
  readonly #startedAt = performance.now();
  #step = 0;
  #timer: NodeJS.Timeout | null = null;

  constructor(out: NodeJS.WriteStream, total: number) {
    this.#out = out;
    this.#total = total;
    this.#moves = out.isTTY === true && process.env["TERM"] !== "dumb";
    this.#colours = out.isTTY === true && process.env["NO_COLOR"] === undefined;
  }

  title(text: string): void {
    this.#out.write(`${this.#paint(1, text)}\n\n`);
  }

  begin(title: string): void {
    this.#step++;
    if (!this.#moves) return;
    const startedAt = performance.now();
    let frame = 0;
    const draw = (): void => {
      const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
      const mark = FRAMES[frame++ % FRAMES.length] ?? "";
      this.#out.write(
        `\r\x1b[2K${this.#paint(36, mark)} ${this.#bar()} ${title} ${this.#paint(2, `${seconds} s`)}`,
      );
    };
    draw();
    this.#timer = setInterval(draw, FRAME_MS);
  }

  done(title: string, seconds: number, lines: readonly Line[]): void {
    this.#clear();
    const number = `${this.#step}/${this.#total}`.padStart(5);
    this.#out.write(
      `${this.#paint(32, "✔")} ${number}  ${this.#paint(1, title)}  ${this.#paint(2, `${seconds.toFixed(1)} s`)}\n`,
    );
    this.#lines(lines);
    this.#out.write("\n");
  }

  failed(title: string, error: Error, lines: readonly Line[]): void {
    this.#clear();
    this.#out.write(
      `${this.#paint(31, "✖")} ${`${this.#step}/${this.#total}`.padStart(5)}  ${this.#paint(1, title)}\n`,
    );
    this.#lines(lines);
    for (const line of error.message.split("\n"))
      this.#out.write(`         ${this.#paint(31, line)}\n`);
    this.#out.write("\n");
  }

  end(text: string): void {
    const seconds = ((performance.now() - this.#startedAt) / 1000).toFixed(0);
    this.#out.write(`${this.#paint(1, text)} ${this.#paint(2, `(${seconds} s)`)}\n`);
  }

  #lines(lines: readonly Line[]): void {
    for (const { kind, text } of lines) {
      const mark =
        kind === "did" ? this.#paint(36, "$") : kind === "saw" ? this.#paint(33, "→") : " ";
      const [first = "", ...more] = text.trimEnd().split("\n");
      this.#out.write(`       ${mark} ${first}\n`);
      for (const line of more) this.#out.write(`         ${line}\n`);
    }
  }

  #bar(): string {
    const filled = Math.round((BAR_WIDTH * (this.#step - 1)) / this.#total);
    return this.#paint(2, `${"━".repeat(filled)}${"╌".repeat(BAR_WIDTH - filled)}`);
  }

  #clear(): void {
    clearInterval(this.#timer ?? undefined);
    this.#timer = null;
    if (this.#moves) this.#out.write("\r\x1b[2K");
  }

  #paint(code: number, text: string): string {
    return this.#colours ? `\x1b[${code}m${text}\x1b[0m` : text;
  }
}

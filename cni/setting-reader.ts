// Reads settings from the environment. Collects what is wrong, so that one start shows every mistake.
import { isAbsolute } from "node:path";
import { tryParseIp } from "#lib/net/ip.ts";

export interface Environment {
  readonly [name: string]: string | undefined;
}

export class SettingReader {
  readonly #env: Environment;
  readonly #faults: string[] = [];

  constructor(env: Environment) {
    this.#env = env;
  }

  text(name: string, fallback: string): string {
    return this.#env[name] ?? fallback;
  }

  required(name: string): string {
    const value = this.text(name, "");
    if (value === "") this.#faults.push(`${name} is not set`);
    return value;
  }

  path(name: string, fallback: string): string {
    const value = this.text(name, fallback);
    if (!isAbsolute(value)) this.#faults.push(`${name}=${value} is not an absolute path`);
    return value;
  }

  flag(name: string, fallback: boolean): boolean {
    const value = this.text(name, String(fallback)).toLowerCase();
    if (["true", "1", "t"].includes(value)) return true;
    if (!["false", "0", "f", ""].includes(value))
      this.#faults.push(`${name}=${value} is not true or false`);
    return false;
  }

  /** Comma separated, blanks trimmed. */
  list(name: string, fallback: string): readonly string[] {
    return this.text(name, fallback)
      .split(",")
      .map((part) => part.trim())
      .filter((part) => part !== "");
  }

  /** `null` when absent or empty. */
  choice<T extends string>(name: string, choices: readonly T[]): T | null {
    const value = this.text(name, "");
    if (value === "") return null;
    const found = choices.find((c) => c === value);
    if (found === undefined) this.#faults.push(`${name}=${value} is none of ${choices.join(", ")}`);
    return found ?? null;
  }

  integer(name: string, fallback: number, least: number, most: number): number {
    const value = this.text(name, String(fallback));
    const number = /^-?\d{1,9}$/.test(value) ? Number(value) : Number.NaN;
    if (number >= least && number <= most) return number;
    this.#faults.push(`${name}=${value} is not a number from ${least} to ${most}`);
    return fallback;
  }

  /** `null` for a negative number: disabled. */
  port(name: string, fallback: number): number | null {
    const number = this.integer(name, fallback, -1, 65_535);
    return number < 0 ? null : number;
  }

  address(name: string, fallback: string, isV6: boolean): string {
    const value = this.text(name, fallback);
    const ip = tryParseIp(value);
    if (ip === null || ip.includes(":") !== isV6)
      this.#faults.push(`${name}=${value} is not an IPv${isV6 ? 6 : 4} address`);
    return ip ?? fallback;
  }

  parsed<T>(name: string, fallback: string, parse: (text: string) => T): T {
    const value = this.text(name, fallback);
    try {
      return parse(value);
    } catch (error) {
      this.#faults.push(`${name}: ${error instanceof Error ? error.message : String(error)}`);
      return parse(fallback);
    }
  }

  /** `0640` and the like. */
  mode(name: string, fallback: number): number {
    const value = this.text(name, "");
    if (value === "") return fallback;
    if (/^0?[0-7]{3}$/.test(value)) return Number.parseInt(value, 8);
    this.#faults.push(`${name}=${value} is not a file mode like 0600`);
    return fallback;
  }

  /** A file name without directories; `null` when absent or empty. */
  fileName(name: string): string | null {
    const value = this.text(name, "");
    if (value === "") return null;
    if (/^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/.test(value)) return value;
    this.#faults.push(`${name}=${value} is not a file name`);
    return null;
  }

  fault(text: string): void {
    this.#faults.push(text);
  }

  /** What was wrong so far. */
  get faults(): readonly string[] {
    return this.#faults;
  }
}

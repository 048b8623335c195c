// Reads settings one by one, remembers every mistake, and throws once naming them all.
import { tryParseSocketAddr, formatSocketAddr } from "#lib/net/ip.ts";
import { IstiodError } from "./errors.ts";

export type Env = Readonly<Record<string, string | undefined>>;

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

export class EnvReader {
  readonly #env: Env;
  readonly #problems: string[] = [];

  constructor(env: Env) {
    this.#env = env;
  }

  problem(text: string): void {
    this.#problems.push(text);
  }

  /** An empty value counts as absent, as shells and charts leave them. */
  text(name: string, fallback: string): string {
    const value = this.#env[name];
    return value === undefined || value === "" ? fallback : value;
  }

  optional(name: string): string | null {
    return this.text(name, "") || null;
  }

  required(name: string, what: string): string {
    const value = this.text(name, "");
    if (value === "") this.problem(`${name} is not set: ${what}`);
    return value;
  }

  /** Comma separated; blanks around entries and empty entries do not count. */
  list(name: string, fallback: string): string[] {
    return this.text(name, fallback)
      .split(",")
      .map((entry) => entry.trim())
      .filter((entry) => entry !== "");
  }

  boolean(name: string, fallback: boolean): boolean {
    const value = this.text(name, String(fallback)).toLowerCase();
    if (value === "true" || value === "1") return true;
    if (value !== "false" && value !== "0")
      this.problem(`${name}=${JSON.stringify(value)} is neither true nor false`);
    return false;
  }

  oneOf<T extends string>(name: string, values: readonly T[], fallback: T): T {
    const value = this.text(name, fallback);
    const known = values.find((candidate) => candidate === value);
    if (known === undefined)
      this.problem(`${name}=${JSON.stringify(value)} is none of ${values.join(", ")}`);
    return known ?? fallback;
  }

  /** Go's spelling, one or more parts: `24h`, `1h30m`, `500ms`; `0` alone. */
  durationMs(name: string, fallback: string): number {
    const value = this.text(name, fallback);
    if (value === "0") return 0;
    const parts = [...value.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)];
    if (parts.length === 0 || parts.map((part) => part[0]).join("") !== value) {
      this.problem(`${name}=${JSON.stringify(value)} is no duration such as 24h or 1h30m`);
      return 0;
    }
    return parts.reduce((sum, [, n, unit]) => sum + Number(n) * (UNIT_MS[unit ?? ""] ?? 0), 0);
  }

  /** `ip:port`; a lone `:port` listens on every address. Port 0 picks one. */
  address(name: string, fallback: string): string {
    const value = this.text(name, fallback);
    const full = value.startsWith(":") ? `[::]${value}` : value;
    const address = tryParseSocketAddr(full);
    if (address === null) this.problem(`${name}=${JSON.stringify(value)} is not <ip>:<port>`);
    return address === null ? fallback : formatSocketAddr(address);
  }

  /** @throws {IstiodError} `CONFIG_INVALID` when anything was wrong */
  done<T extends object>(config: T): Readonly<T> {
    if (this.#problems.length > 0)
      throw new IstiodError("CONFIG_INVALID", `Cannot start: ${this.#problems.join("; ")}`);
    return Object.freeze(config);
  }
}

// Reads typed settings from an environment and collects every mistake, so that a wrong deployment is
// corrected in one go rather than one restart at a time.

/** The environment or a configuration file is wrong; the message lists every mistake. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
}

export type Env = Readonly<Record<string, string | undefined>>;

/** Text that never appears in dumps or logs. */
export class Secret {
  readonly #text: string;

  constructor(text: string) {
    this.#text = text;
  }

  reveal(): string {
    return this.#text;
  }

  toJSON(): string {
    return "[redacted]";
  }

  toString(): string {
    return "[redacted]";
  }
}

const UNIT_MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
/** The longest duration that a timer of the platform can hold is handled by the users; this bounds typing errors. */
const MAX_DURATION_MS = 10 * 365 * UNIT_MS.d;

/** `10s`, `1h30m`, `500ms`. Null for anything else. */
export function tryParseDurationMs(text: string): number | null {
  if (!/^(\d{1,9}(ms|s|m|h|d))+$/.test(text)) return null;
  let total = 0;
  for (const [, count, unit] of text.matchAll(/(\d+)(ms|[smhd])/g))
    total += Number(count) * UNIT_MS[unit as keyof typeof UNIT_MS];
  return total <= MAX_DURATION_MS ? total : null;
}

/** Kubernetes CPU quantity: `500m`, `2`, `1.5`; rounded up to whole cores. Null for anything else. */
export function tryParseCores(text: string): number | null {
  const milli = /^(\d{1,7})m$/.exec(text)?.[1];
  if (milli !== undefined) return Math.max(1, Math.ceil(Number(milli) / 1_000));
  return /^\d{1,4}(\.\d{1,3})?$/.test(text) ? Math.max(1, Math.ceil(Number(text))) : null;
}

/** An empty variable counts as unset, as it does for Istio's charts. */
export class ConfigReader {
  readonly #env: Env;
  readonly #problems: string[] = [];

  constructor(env: Env) {
    this.#env = env;
  }

  problem(text: string): void {
    this.#problems.push(text);
  }

  /** Whether the variable is present, even if empty. */
  has(name: string): boolean {
    return this.#env[name] !== undefined;
  }

  text<D extends string | null>(name: string, fallback: D): string | D {
    const value = this.#env[name];
    return value === undefined || value === "" ? fallback : value;
  }

  /** Exactly `true` or `false`. */
  bool<D extends boolean | null>(name: string, fallback: D): boolean | D {
    const value = this.text(name, null);
    if (value === null) return fallback;
    if (value === "true" || value === "false") return value === "true";
    return this.#bad(name, value, "true or false", fallback);
  }

  integer<D extends number | null>(
    name: string,
    fallback: D,
    min: number,
    max: number,
  ): number | D {
    const value = this.text(name, null);
    if (value === null) return fallback;
    const number = /^\d{1,15}$/.test(value) ? Number(value) : Number.NaN;
    if (number >= min && number <= max) return number;
    return this.#bad(name, value, `a whole number from ${min} to ${max}`, fallback);
  }

  durationMs<D extends number | null>(name: string, fallback: D): number | D {
    const value = this.text(name, null);
    if (value === null) return fallback;
    return (
      tryParseDurationMs(value) ??
      this.#bad(name, value, "a duration like 10s, 5m or 24h", fallback)
    );
  }

  cores(name: string): number | null {
    const value = this.text(name, null);
    if (value === null) return null;
    return tryParseCores(value) ?? this.#bad(name, value, "a CPU quantity like 500m or 2", null);
  }

  oneOf<T extends string>(name: string, values: readonly T[], fallback: T): T {
    const value = this.text(name, null);
    if (value === null) return fallback;
    return values.find((v) => v === value) ?? this.#bad(name, value, values.join(" or "), fallback);
  }

  /** Variables that start with `prefix`, keyed by the rest of their name. */
  withPrefix(prefix: string): ReadonlyMap<string, string> {
    const found = new Map<string, string>();
    for (const [name, value] of Object.entries(this.#env))
      if (name.startsWith(prefix) && name.length > prefix.length && value !== undefined)
        found.set(name.slice(prefix.length), value);
    return found;
  }

  /** Refuses a value that is valid in Istio's ztunnel and not supported here, rather than ignoring it. */
  unsupported(name: string, is: boolean, why: string): void {
    if (is) this.problem(`${name}=${this.#env[name] ?? ""} is not supported: ${why}`);
  }

  /** @throws {ConfigError} naming every mistake found so far */
  done<T extends object>(value: T): Readonly<T> {
    if (this.#problems.length > 0)
      throw new ConfigError(`Invalid configuration:\n  ${this.#problems.join("\n  ")}`);
    return Object.freeze(value);
  }

  #bad<D>(name: string, value: string, wanted: string, fallback: D): D {
    this.problem(`${name}=${JSON.stringify(value)}: expected ${wanted}`);
    return fallback;
  }
}

// Which scope logs at which level: the value of RUST_LOG and of POST /logging, as Istio's ztunnel reads it.

export const LEVELS = ["off", "error", "warn", "info", "debug", "trace"] as const;
export type Level = (typeof LEVELS)[number];

export class LogFilterError extends Error {
  override readonly name = "LogFilterError";
}

/** A default level and exceptions by scope; a longer scope beats a shorter one that contains it. Immutable. */
export class LogFilter {
  readonly base: Level;
  readonly scopes: ReadonlyMap<string, Level>;

  constructor(base: Level = "info", scopes: ReadonlyMap<string, Level> = new Map()) {
    this.base = base;
    this.scopes = scopes;
  }

  /**
   * Reads `info`, `access=debug` or a comma-separated mix; later entries win.
   * @param onto  what the entries are added to
   * @throws {LogFilterError} for an unknown level or a scope without one
   */
  static parse(text: string, onto: LogFilter = new LogFilter()): LogFilter {
    let base = onto.base;
    const scopes = new Map(onto.scopes);
    for (const entry of text.split(",").map((part) => part.trim())) {
      const equals = entry.indexOf("=");
      if (equals < 0) {
        const level = tryParseLevel(entry);
        if (level === null)
          throw new LogFilterError(
            `Not a log level: ${JSON.stringify(entry)}, expected one of ${LEVELS.join(", ")} or scope=level`,
          );
        base = level;
        continue;
      }
      const scope = entry.slice(0, equals).trim();
      const level = tryParseLevel(entry.slice(equals + 1).trim());
      if (level === null || !/^[\w:.*-]+$/.test(scope))
        throw new LogFilterError(
          `Not a log directive: ${JSON.stringify(entry)}, expected scope=level`,
        );
      scopes.set(scope, level);
    }
    return new LogFilter(base, scopes);
  }

  levelOf(scope: string): Level {
    let best = "";
    let level = this.base;
    for (const [name, its] of this.scopes) {
      if (name.length < best.length || !covers(name, scope)) continue;
      best = name;
      level = its;
    }
    return level;
  }

  /** The filter as `parse` reads it: scopes first, sorted, then the default. */
  toString(): string {
    const scopes = [...this.scopes].map(([scope, level]) => `${scope}=${level}`).sort();
    return [...scopes, this.base].join(",");
  }
}

/** `warning` and upper case are what people type. */
function tryParseLevel(text: string): Level | null {
  const lower = text.toLowerCase();
  const level = lower === "warning" ? "warn" : lower;
  return LEVELS.find((l) => l === level) ?? null;
}

/** `ztunnel` covers `ztunnel`, `ztunnel::proxy` and `ztunnel.proxy`. */
function covers(name: string, scope: string): boolean {
  if (!scope.startsWith(name)) return false;
  return scope.length === name.length || /^(::|\.)/.test(scope.slice(name.length));
}

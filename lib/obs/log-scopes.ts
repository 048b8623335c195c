// All loggers of a program, one per scope, and the filter that sets their levels while it runs.
import { createLogger, type Logger, type LogOptions } from "./log.ts";
import type { Level, LogFilter } from "./log-filter.ts";

export interface LogScopesOptions {
  readonly filter: LogFilter;
  readonly format: LogOptions["format"];
  readonly destination: NonNullable<LogOptions["destination"]>;
}

/** Owns nothing that needs closing: the destination belongs to the caller. */
export class LogScopes {
  readonly #options: LogScopesOptions;
  readonly #loggers = new Map<string, Logger>();
  readonly #listeners: (() => void)[] = [];
  #filter: LogFilter;

  constructor(options: LogScopesOptions) {
    this.#options = options;
    this.#filter = options.filter;
  }

  get filter(): LogFilter {
    return this.#filter;
  }

  /** The logger of `scope`; the same object each time, so that a later `apply` reaches every holder. */
  logger(scope: string): Logger {
    let logger = this.#loggers.get(scope);
    if (logger === undefined) {
      const { format, destination } = this.#options;
      logger = createLogger({ scope, format, destination, level: pinoLevel(this.level(scope)) });
      this.#loggers.set(scope, logger);
    }
    return logger;
  }

  level(scope: string): Level {
    return this.#filter.levelOf(scope);
  }

  apply(filter: LogFilter): void {
    this.#filter = filter;
    for (const [scope, logger] of this.#loggers) logger.level = pinoLevel(this.level(scope));
    for (const listener of this.#listeners) listener();
  }

  /** The filter the program started with: `apply` it to go back. */
  get initial(): LogFilter {
    return this.#options.filter;
  }

  /** Called after each change, for those who write lines themselves (the workers' access logs). */
  onChange(listener: () => void): void {
    this.#listeners.push(listener);
  }
}

function pinoLevel(level: Level): LogOptions["level"] {
  return level === "off" ? "silent" : level;
}

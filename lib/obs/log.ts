// The one logger: pino, printing either JSON lines or the tab-separated text Istio's tools print.
import { pino, type DestinationStream, type Logger } from "pino";

export type { Logger };

export interface LogOptions {
  /** Program or scope, e.g. `ztunnel`. */
  readonly scope: string;
  readonly level: "trace" | "debug" | "info" | "warn" | "error" | "silent";
  readonly format: "plain" | "json";
  /** Where lines go; standard output by default. */
  readonly destination?: DestinationStream;
}

const LEVEL_NAME: Readonly<Record<number, string>> = {
  10: "trace",
  20: "debug",
  30: "info",
  40: "warn",
  50: "error",
  60: "error",
};

/** Messages are constant; everything variable is a field: `log.info({ pod: uid }, "pod added")`. */
export function createLogger(options: LogOptions): Logger {
  const destination = options.destination ?? pino.destination({ fd: 1, sync: true });
  return pino(
    {
      level: options.level,
      base: { scope: options.scope },
      messageKey: "message",
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label === "fatal" ? "error" : label }) },
      serializers: { error: describeError, err: describeError },
    },
    options.format === "json"
      ? destination
      : { write: (line) => destination.write(plainLine(line)) },
  );
}

/** `time<TAB>level<TAB>scope<TAB>message<TAB>key=value …`: strings quoted, numbers bare. */
function plainLine(json: string): string {
  const { time, level, scope, message, ...fields } = JSON.parse(json) as Record<string, unknown>;
  const name = typeof level === "number" ? (LEVEL_NAME[level] ?? "info") : String(level);
  const text = Object.entries(fields)
    .map(
      ([key, value]) =>
        `${key}=${typeof value === "number" ? String(value) : JSON.stringify(value)}`,
    )
    .join(" ");
  const parts = [time, name, scope, message, ...(text === "" ? [] : [text])];
  return `${parts.map(String).join("\t")}\n`;
}

function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause instanceof Error ? `: ${describeError(error.cause)}` : "";
  return `${error.message}${cause}`;
}

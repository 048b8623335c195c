// Access-log lines come ready from the workers; what the `access` scope does not want is left out here.
import type { Level } from "#lib/obs/log-filter.ts";

/** Levels a worker cannot tell apart from `info`, and the lines they keep. */
const KEPT: Readonly<Partial<Record<Level, RegExp>>> = {
  warn: /^(?:\S+\t(?:warn|error)\t|\{"level":"(?:warn|error)")/,
  error: /^(?:\S+\terror\t|\{"level":"error")/,
};

/** @param bytes  whole lines, plain or JSON, newlines included */
export function filterAccessLines(bytes: Uint8Array, level: Level): Uint8Array | string {
  const kept = KEPT[level];
  if (kept === undefined) return bytes;
  const lines = Buffer.from(bytes)
    .toString()
    .split("\n")
    .filter((line) => kept.test(line));
  return lines.length === 0 ? "" : `${lines.join("\n")}\n`;
}

/** Data planes write lines of `info` and `error`; `filterAccessLines` leaves out what `warn` and `error` do not want. */
export function dataPlaneAccessLevel(level: Level): "off" | "info" | "debug" {
  switch (level) {
    case "off":
      return "off";
    case "debug":
    case "trace":
      return "debug";
    case "error":
    case "warn":
    case "info":
      return "info";
    default:
      return level satisfies never;
  }
}

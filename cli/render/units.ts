// Quantities as an operator reads them: ages, byte counts, rates; and durations as they are typed.
import { CliError } from "../errors.ts";

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** kubectl's AGE: `42s`, `5m`, `5m10s` below ten minutes, `3h`, `3d`. */
export function formatAge(ms: number): string {
  if (!Number.isFinite(ms)) return "<unknown>";
  const t = Math.max(0, ms);
  if (t < 2 * MINUTE) return `${Math.floor(t / SECOND)}s`;
  if (t < 10 * MINUTE) return pair(t, MINUTE, "m", SECOND, "s");
  if (t < 3 * HOUR) return `${Math.floor(t / MINUTE)}m`;
  if (t < 8 * HOUR) return pair(t, HOUR, "h", MINUTE, "m");
  if (t < 2 * DAY) return `${Math.floor(t / HOUR)}h`;
  if (t < 8 * DAY) return pair(t, DAY, "d", HOUR, "h");
  return `${Math.floor(t / DAY)}d`;
}

/** The age of an RFC 3339 time. */
export function ageSince(time: string | undefined, now: number): string {
  return time === undefined ? "<unknown>" : formatAge(now - Date.parse(time));
}

/** `0B`, `410B`, `1.2Ki`, `34Mi`. */
export function formatBytes(bytes: number): string {
  let value = Math.max(0, bytes);
  if (value < 1024) return `${Math.round(value)}B`;
  for (const unit of ["Ki", "Mi", "Gi", "Ti", "Pi"]) {
    value /= 1024;
    if (value < 10) return `${(Math.floor(value * 10) / 10).toString()}${unit}`;
    if (value < 1024) return `${Math.floor(value)}${unit}`;
  }
  return `${Math.floor(value)}Pi`;
}

/** `7ms`, `1.4s`, `5m`. */
export function formatDuration(ms: number): string {
  if (ms < SECOND) return `${Math.round(ms)}ms`;
  if (ms < MINUTE) return `${(Math.round(ms / 100) / 10).toString()}s`;
  return formatAge(ms);
}

/** `HH:MM:SS.mmm` of an RFC 3339 time, local. */
export function formatClock(time: string): string {
  const date = new Date(time);
  if (Number.isNaN(date.getTime())) return time;
  const two = (n: number): string => String(n).padStart(2, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** Reads `500ms`, `15s`, `2m`, `1h`, `1d` and sums like `1m30s`; ms. @throws {CliError} USAGE */
export function parseDuration(text: string): number {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)];
  if (parts.length === 0 || parts.map((p) => p[0]).join("") !== text)
    throw new CliError("USAGE", `Not a duration: ${JSON.stringify(text)}`, [
      "write a number and a unit: 500ms, 15s, 2m, 1h",
    ]);
  const unit: Record<string, number> = { ms: 1, s: SECOND, m: MINUTE, h: HOUR, d: DAY };
  return parts.reduce((sum, p) => sum + Number(p[1]) * (unit[p[2] ?? ""] ?? 0), 0);
}

function pair(t: number, big: number, bigUnit: string, small: number, smallUnit: string): string {
  const rest = Math.floor((t % big) / small);
  return `${Math.floor(t / big)}${bigUnit}${rest === 0 ? "" : `${rest}${smallUnit}`}`;
}

// The proxy's own resolver settings: name servers, timeout and attempts of /etc/resolv.conf (resolv.conf(5)).
import { readFileSync, statSync } from "node:fs";
import { tryParseIp, type SocketAddr } from "#lib/net/ip.ts";

export interface ResolvConf {
  readonly servers: readonly SocketAddr[];
  /** For one try at one server. */
  readonly timeoutMs: number;
  /** Rounds over all servers. */
  readonly attempts: number;
}

const DNS_PORT = 53;
/** As glibc: further servers are ignored. */
const MAX_SERVERS = 3;

export function parseResolvConf(text: string): ResolvConf {
  const servers: SocketAddr[] = [];
  let timeout = 5;
  let attempts = 2;
  for (const raw of text.split("\n")) {
    const [keyword, ...values] = raw
      .replace(/[#;].*$/, "")
      .trim()
      .split(/\s+/);
    if (keyword === "nameserver") {
      const ip = tryParseIp(values[0] ?? "");
      if (ip !== null && servers.length < MAX_SERVERS) servers.push({ ip, port: DNS_PORT });
    } else if (keyword === "options") {
      for (const option of values) {
        const [, name, number] = /^(timeout|attempts):(\d{1,3})$/.exec(option) ?? [];
        if (name === "timeout") timeout = clamp(Number(number), 1, 30);
        if (name === "attempts") attempts = clamp(Number(number), 1, 5);
      }
    }
  }
  return { servers, timeoutMs: timeout * 1_000, attempts };
}

/** How long an answer may rest on an old look at the file. */
const RECHECK_MS = 5_000;

/** The file as it is now, read again when it has changed. An unreadable file means no servers. */
export function resolvConfReader(
  path = "/etc/resolv.conf",
  now: () => number = Date.now,
): () => ResolvConf {
  let current = parseResolvConf("");
  let stamp = "";
  let checkedAt = Number.NEGATIVE_INFINITY;
  return () => {
    if (now() - checkedAt < RECHECK_MS) return current;
    checkedAt = now();
    try {
      const { mtimeMs, ino, size } = statSync(path);
      const found = `${mtimeMs}:${ino}:${size}`;
      if (found !== stamp) current = parseResolvConf(readFileSync(path, "utf8"));
      stamp = found;
    } catch {
      current = parseResolvConf("");
      stamp = "";
    }
    return current;
  };
}

function clamp(value: number, min: number, max: number): number {
  return Math.min(max, Math.max(min, value));
}

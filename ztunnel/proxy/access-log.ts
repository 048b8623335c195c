// Access-log lines in Istio's field order, built as text in the worker and handed to the main thread
// in batches. One line per finished connection; at debug also one when it opens.
import { formatSocketAddr } from "#lib/net/ip.ts";
import type { Workload } from "#lib/model/workload.ts";
import type { SocketAddr } from "#lib/net/ip.ts";
import type { Connection, Failure } from "./connection.ts";

type Field = readonly [key: string, value: string | number | null, isBare?: boolean];

/** The parts of a line that all connections of one series share: before, between and behind the addresses. */
interface Segments {
  readonly source: string;
  readonly destination: string;
  readonly service: string;
}

/** Lines in one batch. */
const BATCH = 64;

export class AccessLog {
  level: "off" | "info" | "debug";
  readonly #format: "plain" | "json";
  readonly #emit: (text: string) => void;
  readonly #segments = new WeakMap<Workload, Map<string, Segments>>();
  #lines = "";
  #count = 0;

  constructor(options: {
    readonly level: "off" | "info" | "debug";
    readonly format: "plain" | "json";
    readonly emit: (text: string) => void;
  }) {
    this.level = options.level;
    this.#format = options.format;
    this.#emit = options.emit;
  }

  opened(c: Connection, nowMs: number): void {
    if (this.level === "debug") this.#connectionLine(nowMs, "debug", "connection opened", c, "");
  }

  closed(c: Connection, failure: Failure | null, nowMs: number): void {
    if (this.level === "off") return;
    const sent = c.bytes?.bytesSent ?? 0;
    const received = c.bytes?.bytesReceived ?? 0;
    const duration = Math.max(0, Math.round(nowMs - c.init.openedAtMs));
    let tail =
      this.#format === "json"
        ? `,"bytes_sent":${sent},"bytes_recv":${received},"duration":"${duration}ms"`
        : ` bytes_sent=${sent} bytes_recv=${received} duration="${duration}ms"`;
    if (failure === null)
      return this.#connectionLine(nowMs, "info", "connection complete", c, tail);
    tail += this.#fields([
      ["error", failure.detail],
      ["reason", failure.reason],
      ["policy", failure.policy ?? null],
    ]);
    this.#connectionLine(nowMs, "error", "connection complete", c, tail);
  }

  /** A connection refused before anything was known about it. */
  denied(
    direction: "inbound" | "outbound",
    source: SocketAddr,
    destination: SocketAddr | null,
    failure: Failure,
    nowMs: number,
  ): void {
    if (this.level === "off") return;
    const fields = this.#fields([
      ["src.addr", formatSocketAddr(source), true],
      ["dst.addr", destination === null ? null : formatSocketAddr(destination), true],
      ["direction", direction],
      ["error", failure.detail],
      ["reason", failure.reason],
    ]);
    this.#line(this.#head(nowMs, "warn", "connection failed") + fields.slice(1));
  }

  get hasLines(): boolean {
    return this.#count > 0;
  }

  /** Sends what waits; the worker calls it when it has nothing else to do. */
  flush(): void {
    if (this.#count === 0) return;
    const text = this.#lines;
    this.#lines = "";
    this.#count = 0;
    this.#emit(text);
  }

  /** Hot path: runs per connection. */
  #connectionLine(
    nowMs: number,
    level: string,
    message: string,
    c: Connection,
    tail: string,
  ): void {
    const { source, destination, service } = this.#segmentsOf(c);
    const { init } = c;
    const isHbone = init.protocol === "HBONE";
    const head = this.#head(nowMs, level, message);
    this.#line(
      this.#format === "json"
        ? `${head}"src.addr":"${formatSocketAddr(init.source)}"${source},"dst.addr":"${formatSocketAddr(init.destination)}"${isHbone ? `,"dst.hbone_addr":"${init.original}"` : ""}${service}${destination}${tail}`
        : `${head}src.addr=${formatSocketAddr(init.source)}${source} dst.addr=${formatSocketAddr(init.destination)}${isHbone ? ` dst.hbone_addr=${init.original}` : ""}${service}${destination}${tail}`,
    );
  }

  #head(nowMs: number, level: string, message: string): string {
    const time = timestamp(nowMs);
    return this.#format === "json"
      ? `{"level":"${level}","time":"${time}","scope":"access","message":"${message}",`
      : `${time}\t${level}\taccess\t${message}\t`;
  }

  #line(text: string): void {
    this.#lines += this.#format === "json" ? `${text}}\n` : `${text}\n`;
    if (++this.#count >= BATCH) this.flush();
  }

  #segmentsOf(c: Connection): Segments {
    const { init } = c;
    const anchor = init.destinationWorkload ?? init.sourceWorkload;
    if (anchor === null) return this.#makeSegments(c);
    let byKey = this.#segments.get(anchor);
    if (byKey === undefined) {
      byKey = new Map();
      this.#segments.set(anchor, byKey);
    }
    const key = `${init.sourceWorkload?.uid ?? ""}|${init.sourceIdentity ?? ""}|${init.service?.hostname ?? ""}|${init.direction}${init.protocol}`;
    let made = byKey.get(key);
    if (made === undefined) {
      if (byKey.size > 1000) byKey.clear();
      made = this.#makeSegments(c);
      byKey.set(key, made);
    }
    return made;
  }

  #makeSegments({ init }: Connection): Segments {
    const isHbone = init.protocol === "HBONE";
    return {
      source: this.#fields([
        ["src.workload", nameOf(init.sourceWorkload)],
        ["src.namespace", init.sourceWorkload?.namespace ?? null],
        ["src.identity", isHbone ? init.sourceIdentity : null],
        ["src.cluster", init.sourceWorkload?.clusterId ?? null],
      ]),
      service: this.#fields([["dst.service", init.service?.hostname ?? null]]),
      destination: this.#fields([
        ["dst.workload", nameOf(init.destinationWorkload)],
        ["dst.namespace", init.destinationWorkload?.namespace ?? null],
        ["dst.identity", isHbone ? init.destinationIdentity : null],
        ["dst.cluster", init.destinationWorkload?.clusterId ?? null],
        ["direction", init.direction],
      ]),
    };
  }

  /** Each field with its separator before it. */
  #fields(fields: readonly Field[]): string {
    let text = "";
    for (const [key, value, isBare] of fields) {
      if (value === null) continue;
      if (this.#format === "json") text += `,"${key}":${JSON.stringify(value)}`;
      else text += isBare === true ? ` ${key}=${value}` : ` ${key}=${JSON.stringify(value)}`;
    }
    return text;
  }
}

let stampMs = 0;
let stamp = "";
/** Microseconds, as Istio prints them; the clock has milliseconds. */
function timestamp(nowMs: number): string {
  if (nowMs !== stampMs) {
    stampMs = nowMs;
    stamp = `${new Date(nowMs).toISOString().slice(0, -1)}000Z`;
  }
  return stamp;
}

function nameOf(workload: Workload | null): string | null {
  return workload === null ? null : workload.name || workload.canonicalName;
}

// Access-log lines in Istio's field order, built as text in the worker and handed to the main thread
// in batches. One line per finished connection; at debug also one when it opens.
import { formatSocketAddr } from "#lib/net/ip.ts";
import type { Workload } from "#lib/model/workload.ts";
import type { SocketAddr } from "#lib/net/ip.ts";
import type { Connection, Failure } from "./connection.ts";

type Field = readonly [key: string, value: string | number | null, isBare?: boolean];

/** Lines in one batch. */
const BATCH = 64;

export class AccessLog {
  level: "off" | "info" | "debug";
  readonly #format: "plain" | "json";
  readonly #emit: (text: string) => void;
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
    if (this.level === "debug") this.#line(nowMs, "debug", "connection opened", fieldsOf(c));
  }

  closed(c: Connection, failure: Failure | null, nowMs: number): void {
    if (this.level === "off") return;
    const fields = fieldsOf(c);
    fields.push(
      ["bytes_sent", c.bytes?.bytesSent ?? 0, true],
      ["bytes_recv", c.bytes?.bytesReceived ?? 0, true],
      ["duration", `${Math.max(0, Math.round(nowMs - c.init.openedAtMs))}ms`],
      ["error", failure?.detail ?? null],
      ["reason", failure?.reason ?? null],
      ["policy", failure?.policy ?? null],
    );
    this.#line(nowMs, failure === null ? "info" : "error", "connection complete", fields);
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
    this.#line(nowMs, "warn", "connection failed", [
      ["src.addr", formatSocketAddr(source), true],
      ["dst.addr", destination === null ? null : formatSocketAddr(destination), true],
      ["direction", direction],
      ["error", failure.detail],
      ["reason", failure.reason],
    ]);
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

  #line(nowMs: number, level: string, message: string, fields: readonly Field[]): void {
    const time = timestamp(nowMs);
    this.#lines +=
      this.#format === "json"
        ? jsonLine(time, level, message, fields)
        : plainLine(time, level, message, fields);
    if (++this.#count >= BATCH) this.flush();
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

function plainLine(time: string, level: string, message: string, fields: readonly Field[]): string {
  let text = `${time}\t${level}\taccess\t${message}\t`;
  let separator = "";
  for (const [key, value, isBare] of fields) {
    if (value === null) continue;
    text +=
      isBare === true
        ? `${separator}${key}=${value}`
        : `${separator}${key}=${JSON.stringify(value)}`;
    separator = " ";
  }
  return `${text}\n`;
}

function jsonLine(time: string, level: string, message: string, fields: readonly Field[]): string {
  let text = `{"level":"${level}","time":"${time}","scope":"access","message":"${message}"`;
  for (const [key, value] of fields)
    if (value !== null) text += `,"${key}":${JSON.stringify(value)}`;
  return `${text}}\n`;
}

function fieldsOf(c: Connection): Field[] {
  const { init } = c;
  const isHbone = init.protocol === "HBONE";
  return [
    ["src.addr", formatSocketAddr(init.source), true],
    ["src.workload", nameOf(init.sourceWorkload)],
    ["src.namespace", init.sourceWorkload?.namespace ?? null],
    ["src.identity", isHbone ? init.sourceIdentity : null],
    ["src.cluster", init.sourceWorkload?.clusterId ?? null],
    ["dst.addr", formatSocketAddr(init.destination), true],
    ["dst.hbone_addr", isHbone ? init.original : null, true],
    ["dst.service", init.service?.hostname ?? null],
    ["dst.workload", nameOf(init.destinationWorkload)],
    ["dst.namespace", init.destinationWorkload?.namespace ?? null],
    ["dst.identity", isHbone ? init.destinationIdentity : null],
    ["dst.cluster", init.destinationWorkload?.clusterId ?? null],
    ["direction", init.direction],
  ];
}

function nameOf(workload: Workload | null): string | null {
  return workload === null ? null : workload.name || workload.canonicalName;
}

// Access-log lines in Istio's field order, built as bytes in the worker and handed to the main thread
// in batches. One line per finished connection; at debug also one when it opens.
import { formatSocketAddr, type SocketAddr } from "#lib/net/ip.ts";
import type { Workload } from "#lib/model/workload.ts";
import { type Connection, type Failure, isFault } from "./connection.ts";
import { LineBuffer } from "./line-buffer.ts";

type Field = readonly [key: string, value: string | number | null, isBare?: boolean];

/** The parts of a line that all connections between two ends share; they stand between the addresses. */
interface Parts {
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
}

/** Lines in one batch. */
const BATCH = 64;
/** Different clients remembered per destination. */
const MAX_PARTS = 1000;

export interface AccessLogOptions {
  readonly level: "off" | "info" | "debug";
  readonly format: "plain" | "json";
  /** Takes whole lines. */
  readonly emit: (lines: Uint8Array<ArrayBuffer>) => void;
}

export class AccessLog {
  level: "off" | "info" | "debug";
  readonly #isJson: boolean;
  readonly #emit: (lines: Uint8Array<ArrayBuffer>) => void;
  readonly #out = new LineBuffer();
  readonly #parts = new WeakMap<Workload, Map<string, Parts>>();

  constructor(options: AccessLogOptions) {
    this.level = options.level;
    this.#isJson = options.format === "json";
    this.#emit = options.emit;
  }

  get hasLines(): boolean {
    return this.#out.lines > 0;
  }

  opened(c: Connection, nowMs: number): void {
    if (this.level !== "debug") return;
    this.#connection(c, nowMs, "debug", "connection opened");
    this.#end();
  }

  /** Hot path: runs per connection. */
  closed(c: Connection, failure: Failure | null, nowMs: number): void {
    if (this.level === "off") return;
    const out = this.#out;
    this.#connection(c, nowMs, isFault(failure) ? "error" : "info", "connection complete");
    const duration = Math.max(0, Math.round(nowMs - c.openedAtMs));
    out.ascii(this.#isJson ? ',"bytes_sent":' : " bytes_sent=");
    out.decimal(c.bytesSent);
    out.ascii(this.#isJson ? ',"bytes_recv":' : " bytes_recv=");
    out.decimal(c.bytesReceived);
    out.ascii(this.#isJson ? ',"duration":"' : ' duration="');
    out.decimal(duration);
    out.ascii('ms"');
    if (failure !== null)
      out.text(
        this.#fields([
          ["error", isFault(failure) ? failure.detail : null],
          ["reason", failure.reason],
          ["policy", failure.policy ?? null],
        ]),
      );
    this.#end();
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
    this.#head(nowMs, "warn", "connection failed");
    const fields = this.#fields([
      ["src.addr", formatSocketAddr(source), true],
      ["dst.addr", destination === null ? null : formatSocketAddr(destination), true],
      ["direction", direction],
      ["error", failure.detail],
      ["reason", failure.reason],
    ]);
    this.#out.text(fields.slice(1)); // the head ends with a separator of its own
    this.#end();
  }

  /** Sends what waits; the worker calls it when it has nothing else to do. */
  flush(): void {
    if (this.#out.lines > 0) this.#emit(this.#out.take());
  }

  #connection(c: Connection, nowMs: number, level: string, message: string): void {
    const out = this.#out;
    const parts = this.#partsOf(c);
    const { init } = c;
    const quote = this.#isJson ? '"' : "";
    this.#head(nowMs, level, message);
    out.ascii(this.#isJson ? '"src.addr":"' : "src.addr=");
    out.address(init.source);
    out.ascii(quote);
    out.raw(parts.source);
    out.ascii(this.#isJson ? ',"dst.addr":"' : " dst.addr=");
    out.address(init.destination);
    out.ascii(quote);
    if (init.protocol === "HBONE") {
      out.ascii(this.#isJson ? ',"dst.hbone_addr":"' : " dst.hbone_addr=");
      out.ascii(init.original); // checked: an authority holds no other characters
      out.ascii(quote);
    }
    out.raw(parts.destination);
  }

  #head(nowMs: number, level: string, message: string): void {
    const out = this.#out;
    out.ascii(this.#isJson ? '{"level":"' : timestamp(nowMs));
    if (!this.#isJson) out.ascii("\t");
    out.ascii(level);
    out.ascii(this.#isJson ? '","time":"' : "\taccess\t");
    if (this.#isJson) {
      out.ascii(timestamp(nowMs));
      out.ascii('","scope":"access","message":"');
    }
    out.ascii(message);
    out.ascii(this.#isJson ? '",' : "\t");
  }

  #end(): void {
    if (this.#isJson) this.#out.ascii("}");
    this.#out.endLine();
    if (this.#out.lines >= BATCH) this.flush();
  }

  #partsOf(c: Connection): Parts {
    const { init } = c;
    const anchor = init.destinationWorkload ?? init.sourceWorkload;
    if (anchor === null) return this.#makeParts(c);
    let byKey = this.#parts.get(anchor);
    if (byKey === undefined) {
      byKey = new Map();
      this.#parts.set(anchor, byKey);
    }
    const key = `${init.direction}${init.protocol}${init.sourceWorkload?.uid ?? ""}|${init.sourceIdentity ?? ""}|${init.service?.hostname ?? ""}`;
    let made = byKey.get(key);
    if (made === undefined) {
      if (byKey.size >= MAX_PARTS) byKey.clear();
      made = this.#makeParts(c);
      byKey.set(key, made);
    }
    return made;
  }

  #makeParts({ init }: Connection): Parts {
    const isHbone = init.protocol === "HBONE";
    const source = this.#fields([
      ["src.workload", nameOf(init.sourceWorkload)],
      ["src.namespace", init.sourceWorkload?.namespace ?? null],
      ["src.identity", isHbone ? init.sourceIdentity : null],
      ["src.cluster", init.sourceWorkload?.clusterId ?? null],
    ]);
    const destination = this.#fields([
      ["dst.service", init.service?.hostname ?? null],
      ["dst.workload", nameOf(init.destinationWorkload)],
      ["dst.namespace", init.destinationWorkload?.namespace ?? null],
      ["dst.identity", isHbone ? init.destinationIdentity : null],
      ["dst.cluster", init.destinationWorkload?.clusterId ?? null],
      ["direction", init.direction],
    ]);
    return { source: Buffer.from(source), destination: Buffer.from(destination) };
  }

  /** Each field with its separator before it. */
  #fields(fields: readonly Field[]): string {
    let text = "";
    for (const [key, value, isBare] of fields) {
      if (value === null) continue;
      if (this.#isJson) text += `,"${key}":${JSON.stringify(value)}`;
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

// Collects the header fields of one CONNECT request or its response and says whether they are well-formed
// (RFC 9113 §8.2, §8.3, §8.5). The decoder calls `onHeader` per field; one instance serves a whole session.
import type { OnHeader } from "./hpack-decoder.ts";

/**
 * - `connect`: a CONNECT request
 * - `other-method`: well-formed enough, but answered with 400
 * - `malformed`: the stream is reset with PROTOCOL_ERROR (§8.1.1)
 */
export type RequestKind = "connect" | "other-method" | "malformed";

/** Fields of HTTP/1.1 connections; a message with one of them is malformed (§8.2.2). */
const CONNECTION_SPECIFIC: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
]);

/** §8.2.1: no control characters, spaces, upper case or non-ASCII; a colon only in front, which is a pseudo field. */
const FIELD_NAME = /^[!-9;-@[-~]+$/;
/** §8.2.1: no NUL, CR or LF, no blank at either end. */
// oxlint-disable-next-line no-control-regex -- these are the characters to find
const BAD_VALUE = /[\0\r\n]|^[ \t]|[ \t]$/;

/** Hot path: runs per CONNECT. `reset`, decode with `onHeader`, then `kind` and the fields. */
export class ConnectRequestFields {
  method: string | null = null;
  authority: string | null = null;
  /** Lines joined with `,`. */
  baggage: string | null = null;
  /** First line only, as for the two below. */
  forwarded: string | null = null;
  traceparent: string | null = null;
  forwardedNetwork: string | null = null;
  #hasOtherPseudo = false;
  #isPastPseudo = false;
  #isMalformed = false;

  readonly onHeader: OnHeader = (name, value) => {
    if (BAD_VALUE.test(value)) this.#isMalformed = true;
    if (name.startsWith(":")) this.#onPseudo(name, value);
    else this.#onField(name, value);
  };

  reset(): void {
    this.method = null;
    this.authority = null;
    this.baggage = null;
    this.forwarded = null;
    this.traceparent = null;
    this.forwardedNetwork = null;
    this.#hasOtherPseudo = false;
    this.#isPastPseudo = false;
    this.#isMalformed = false;
  }

  get kind(): RequestKind {
    if (this.#isMalformed || this.method === null) return "malformed";
    if (this.method !== "CONNECT") return "other-method";
    // §8.5: :authority and nothing else. We never offered extended CONNECT (RFC 8441), so :protocol is out too.
    return this.authority === null || this.#hasOtherPseudo ? "malformed" : "connect";
  }

  #onPseudo(name: string, value: string): void {
    if (this.#isPastPseudo) this.#isMalformed = true;
    switch (name) {
      case ":method":
        if (this.method !== null) this.#isMalformed = true;
        this.method = value;
        break;
      case ":authority":
        if (this.authority !== null) this.#isMalformed = true;
        this.authority = value;
        break;
      case ":scheme":
        this.#hasOtherPseudo = true;
        break;
      case ":path":
        this.#hasOtherPseudo = true;
        break;
      default:
        this.#isMalformed = true;
    }
  }

  #onField(name: string, value: string): void {
    this.#isPastPseudo = true;
    switch (name) {
      case "baggage":
        this.baggage = this.baggage === null ? value : `${this.baggage},${value}`;
        break;
      case "forwarded":
        this.forwarded ??= value;
        break;
      case "traceparent":
        this.traceparent ??= value;
        break;
      case "x-forwarded-network":
        this.forwardedNetwork ??= value;
        break;
      default:
        if (!isAllowedField(name, value)) this.#isMalformed = true;
    }
  }
}

/** Hot path: runs per CONNECT answered. */
export class ConnectResponseFields {
  /** Three digits, or null while there is none or when the response is malformed. */
  get status(): number | null {
    return this.#isMalformed ? null : this.#status;
  }
  /** Lines joined with `,`. */
  baggage: string | null = null;
  /** `x-ambit-denied`: `<reason> <policy>` of a 401, from a peer of our own kind. */
  deniedBy: string | null = null;
  #status: number | null = null;
  #isPastPseudo = false;
  #isMalformed = false;

  readonly onHeader: OnHeader = (name, value) => {
    if (BAD_VALUE.test(value)) this.#isMalformed = true;
    if (name === ":status") {
      if (this.#status !== null || this.#isPastPseudo || !/^[1-9]\d\d$/.test(value))
        this.#isMalformed = true;
      this.#status = Number(value);
      return;
    }
    this.#isPastPseudo = true;
    if (name === "baggage")
      this.baggage = this.baggage === null ? value : `${this.baggage},${value}`;
    else if (name === "x-ambit-denied") this.deniedBy ??= value;
    else if (!isAllowedField(name, value)) this.#isMalformed = true; // every other pseudo field included
  };

  reset(): void {
    this.baggage = null;
    this.deniedBy = null;
    this.#status = null;
    this.#isPastPseudo = false;
    this.#isMalformed = false;
  }
}

function isAllowedField(name: string, value: string): boolean {
  if (!FIELD_NAME.test(name) || CONNECTION_SPECIFIC.has(name)) return false;
  return name !== "te" || value === "trailers";
}

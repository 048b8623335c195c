// One DNS query from a pod, start to end: answered from the tables, or passed on, or refused.
import type { Logger } from "#lib/obs/log.ts";
import type { MeshTables } from "#lib/model/tables.ts";
import type { Workload } from "#lib/model/workload.ts";
import { parseQuery, RCODE, rcodeOf, udpLimit, type DnsQuery, type Rcode } from "#lib/wire/dns.ts";
import { MAX_TCP_MESSAGE_BYTES } from "#lib/wire/dns-tcp.ts";
import { encodeFormatError, encodeResponse, type DnsAnswer } from "#lib/wire/dns-response.ts";
import { observeUpstream, type DnsCounters, type DnsSeries } from "./dns-counters.ts";
import type { Forwarder, Transport } from "./forwarder.ts";
import { resolve, type DnsSettings } from "./resolve.ts";

export interface DnsHandlerOptions {
  readonly tables: MeshTables;
  readonly settings: DnsSettings;
  /** The pod's own record; null when it has not come in time. */
  readonly client: (signal: AbortSignal) => Promise<Workload | null>;
  readonly forwarder: Pick<Forwarder, "ask">;
  readonly counters: DnsCounters;
  readonly log: Logger;
  readonly random: () => number;
  /** Milliseconds, rising. */
  readonly elapsed: () => number;
}

export class DnsHandler {
  readonly #options: DnsHandlerOptions;

  constructor(options: DnsHandlerOptions) {
    this.#options = options;
  }

  /**
   * @param message  as received; borrowed
   * @returns the answer, or null for what is not worth one (no header) and after an abort
   */
  async handle(
    message: Uint8Array,
    transport: Transport,
    signal: AbortSignal,
  ): Promise<Uint8Array | null> {
    const query = parseQuery(message);
    if (query.kind === "format-error") {
      this.#options.log.debug({ transport, reason: query.reason }, "dns message refused");
      return encodeFormatError(query);
    }
    const client = await this.#options.client(signal);
    const series = this.#options.counters.of(query.type, transport, client);
    series.requests++;
    if (signal.aborted) return null;
    const answer =
      client === null
        ? reply(query, transport, RCODE.SERVFAIL)
        : await this.#answer(query, message, transport, client, series, signal);
    this.#options.log.debug(
      { name: query.name, type: series.queryType, transport, client: client?.uid },
      "dns query",
    );
    return answer;
  }

  /** Refuses without looking: the pod has too many queries open. */
  refuse(message: Uint8Array, transport: Transport): Uint8Array | null {
    const query = parseQuery(message);
    if (query.kind === "format-error") return encodeFormatError(query);
    return reply(query, transport, RCODE.SERVFAIL);
  }

  async #answer(
    query: DnsQuery,
    message: Uint8Array,
    transport: Transport,
    client: Workload,
    series: DnsSeries,
    signal: AbortSignal,
  ): Promise<Uint8Array | null> {
    const { tables, settings, random } = this.#options;
    const found = resolve(tables, client, query, settings, random);
    if (found.kind === "answer") return reply(query, transport, RCODE.NOERROR, true, found.answers);
    const { forwarder, elapsed } = this.#options;
    const start = elapsed();
    const answer = await forwarder.ask(query, message, transport, signal);
    observeUpstream(series, (elapsed() - start) / 1_000, answer === null || !hasAnswers(answer));
    if (signal.aborted) return null;
    return answer ?? reply(query, transport, RCODE.SERVFAIL);
  }
}

function reply(
  query: DnsQuery,
  transport: Transport,
  rcode: Rcode,
  authoritative = false,
  answers: readonly DnsAnswer[] = [],
): Uint8Array {
  const maxBytes = transport === "udp" ? udpLimit(query) : MAX_TCP_MESSAGE_BYTES;
  return encodeResponse(query, { rcode, authoritative, answers }, maxBytes);
}

/** NXDOMAIN, other errors and empty answers count as upstream failures, as in Istio's ztunnel. */
function hasAnswers(message: Uint8Array): boolean {
  const count = ((message[6] ?? 0) << 8) | (message[7] ?? 0);
  return rcodeOf(message) === RCODE.NOERROR && count > 0;
}

// How long TLS handshakes of tunnels take and how they end, for `ambit_tunnel_handshake_seconds`.
import type { HandshakeOutcome } from "#lib/hbone/tunnel.ts";
import type { HandshakeSeries } from "./snapshot.ts";

/** Upper bounds in seconds; the last is the limit on a handshake. */
export const HANDSHAKE_BUCKETS = [
  0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10,
] as const;

export class HandshakeTimes {
  readonly #series = new Map<
    string,
    { -readonly [K in keyof HandshakeSeries]: HandshakeSeries[K] }
  >();

  /** Once per handshake. @param ms from the TCP connection to its end */
  observe(role: "client" | "server", outcome: HandshakeOutcome, ms: number): void {
    const key = `${role} ${outcome}`;
    let series = this.#series.get(key);
    if (series === undefined) {
      const counts = HANDSHAKE_BUCKETS.map(() => 0).concat(0);
      series = { role, outcome, counts, sumSeconds: 0 };
      this.#series.set(key, series);
    }
    const seconds = ms / 1_000;
    const at = HANDSHAKE_BUCKETS.findIndex((bound) => seconds <= bound);
    const slot = at < 0 ? HANDSHAKE_BUCKETS.length : at;
    series.counts[slot] = (series.counts[slot] ?? 0) + 1;
    series.sumSeconds += seconds;
  }

  snapshot(): HandshakeSeries[] {
    return [...this.#series.values()].map((series) => ({ ...series, counts: [...series.counts] }));
  }
}

// istiod's metrics under Istio's names (port 15014); those of our own begin with `ambit_`.
import { Counter, Gauge, Histogram, Registry } from "prom-client";

/** Seconds: a push of one change reaches its last client within milliseconds. */
const PUSH_BUCKETS = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30];

/** One per process; tests make their own. */
export class Metrics {
  readonly registry = new Registry();
  readonly xdsClients = this.#gauge("pilot_xds", "Clients connected over xDS", ["version"]);
  readonly pushes = this.#counter("pilot_xds_pushes", "Responses sent, by type", ["type"]);
  readonly pushTime = this.#histogram(
    "pilot_xds_push_time",
    "Seconds from a change to the write for the last client, by type",
    PUSH_BUCKETS,
    ["type"],
  );
  readonly convergenceTime = this.#histogram(
    "pilot_proxy_convergence_time",
    "Seconds from a change until a client's connection took it",
    PUSH_BUCKETS,
  );
  readonly configSize = this.#histogram(
    "pilot_xds_config_size_bytes",
    "Bytes of one response, by type",
    [1, 10_000, 1_000_000, 4_000_000, 10_000_000, 40_000_000],
    ["type"],
  );
  readonly pushTriggers = this.#counter(
    "pilot_push_triggers",
    "Changes that led to a push, by cause",
    ["type"],
  );
  readonly rejects = this.#counter("pilot_total_xds_rejects", "Responses a client refused (NACK)", [
    "type",
  ]);
  readonly expiredNonces = this.#counter(
    "pilot_xds_expired_nonce",
    "Requests with an outdated nonce",
    ["type"],
  );
  readonly internalErrors = this.#counter(
    "pilot_total_xds_internal_errors",
    "Errors inside the xDS server",
  );
  readonly writeTimeouts = this.#counter(
    "pilot_xds_write_timeout",
    "Clients cut off because they stopped reading",
  );
  readonly csrCount = this.#counter("citadel_server_csr_count", "Certificate requests received");
  readonly issued = this.#counter(
    "citadel_server_success_cert_issuance_count",
    "Certificates issued",
  );
  readonly authenticationFailures = this.#counter(
    "citadel_server_authentication_failure_count",
    "Certificate requests whose caller or identity was refused",
  );
  readonly csrErrors = this.#counter(
    "citadel_server_csr_parsing_err_count",
    "Certificate requests that do not parse",
  );
  readonly signErrors = this.#counter(
    "citadel_server_csr_sign_err_count",
    "Certificates that could not be signed",
  );
  readonly rootExpiry = this.#gauge(
    "citadel_server_root_cert_expiry_seconds",
    "Seconds since the epoch when the root certificate ends",
  );
  readonly chainExpiry = this.#gauge(
    "citadel_server_cert_chain_expiry_seconds",
    "Seconds since the epoch when the signing certificate ends",
  );
  readonly statusWrites = this.#counter(
    "ambit_istiod_status_writes_total",
    "Objects whose status was written, or given up after several attempts",
    ["result"],
  );
  readonly meshConfigReloads = this.#counter(
    "ambit_istiod_mesh_config_reloads_total",
    "Changes of the mesh configuration file, by what became of them",
    ["result"],
  );
  readonly leader = this.#gauge(
    "ambit_istiod_leader",
    "1 while this replica leads, 0 while it stands by, by lock",
    ["lock"],
  );
  readonly resources = this.#gauge("ambit_istiod_resources", "Resources held, by type", ["type"]);

  constructor(version: string) {
    this.#gauge("istio_build", "Version of this program", ["component", "tag"]).set(
      { component: "pilot", tag: version },
      1,
    );
    this.#gauge("pilot_info", "Version of this program", ["version"]).set({ version }, 1);
    const startedMs = Date.now();
    new Gauge({
      name: "istiod_uptime_seconds",
      help: "Seconds since start",
      registers: [this.registry],
      collect() {
        this.set((Date.now() - startedMs) / 1000);
      },
    });
  }

  #counter<L extends string = never>(name: string, help: string, labelNames: L[] = []): Counter<L> {
    return new Counter({ name, help, labelNames, registers: [this.registry] });
  }

  #gauge<L extends string = never>(name: string, help: string, labelNames: L[] = []): Gauge<L> {
    return new Gauge({ name, help, labelNames, registers: [this.registry] });
  }

  #histogram<L extends string = never>(
    name: string,
    help: string,
    buckets: number[],
    labelNames: L[] = [],
  ): Histogram<L> {
    return new Histogram({ name, help, labelNames, buckets, registers: [this.registry] });
  }
}

// Every setting of the node proxy, read once at start and frozen. Names and defaults are those of
// Istio's ztunnel (src/config.rs), so that its chart can start this program.
import { PORT } from "#lib/net/ports.ts";
import type { LogFilter } from "#lib/obs/log-filter.ts";
import { readLogFilter } from "#lib/obs/read-log-filter.ts";
import { readNodeMetadata, textOf } from "#lib/xds/proxy-node.ts";
import { ConfigReader, type Env } from "#lib/base/config-reader.ts";
import { readDrainDeadline } from "#lib/base/drain-deadline.ts";
import { readEndpoint, readTokenSource } from "#lib/grpc/control-plane-config.ts";
import type { ControlPlaneEndpoint, TokenSource } from "#lib/grpc/control-plane.ts";
import { readProxyConfig } from "./proxy-config.ts";

export interface Config {
  readonly mode: "shared";
  readonly nodeName: string;
  /** The network this node's addresses are on. */
  readonly network: string;
  readonly clusterId: string;
  readonly clusterDomain: string;
  readonly trustDomain: string;
  readonly xds: ControlPlaneEndpoint;
  readonly ca: ControlPlaneEndpoint;
  readonly token: TokenSource;
  readonly secretTtlMs: number;
  /** Among services of equal host name, DNS prefers this namespace after the client's own. */
  readonly preferredServiceNamespace: string | null;
  readonly inpodUds: string;
  readonly inpodPortReuse: boolean;
  /** SO_MARK of every socket made inside a pod. */
  readonly packetMark: number;
  readonly ipv6Enabled: boolean;
  /** Keep the client's source address: null is best effort. */
  readonly origSrc: boolean | null;
  readonly localhostAppTunnel: boolean;
  readonly responseBaggage: boolean;
  readonly pool: { readonly maxStreams: number; readonly unusedReleaseMs: number };
  readonly http2: {
    readonly streamWindowBytes: number;
    readonly connectionWindowBytes: number;
    readonly frameBytes: number;
  };
  readonly keepalive: {
    readonly enabled: boolean;
    readonly timeMs: number;
    readonly intervalMs: number;
    readonly retries: number;
    /** TCP_USER_TIMEOUT; 0 leaves it to the kernel. */
    readonly userTimeoutMs: number;
  };
  /** How long connections may go on after a shutdown began. */
  readonly drainDeadlineMs: number;
  readonly workerThreads: number;
  readonly policyInfoLogging: boolean;
  readonly dnsCapture: boolean;
  readonly logFilter: LogFilter;
  readonly logFormat: "plain" | "json";
  readonly pod: {
    readonly name: string;
    readonly namespace: string;
    readonly serviceAccount: string;
    readonly ip: string;
  };
  readonly istioVersion: string;
  /** Metadata of the xDS node, ISTIO_META_ prefixes stripped; JSON values are typed. */
  readonly nodeMetadata: ReadonlyMap<string, unknown>;
  readonly ports: { readonly admin: number; readonly metrics: number; readonly readiness: number };
}

/** The two outside facts a configuration depends on; passed in so that reading it stays pure. */
export interface ConfigSurroundings {
  readonly cores: number;
  readonly exists: (path: string) => boolean;
  /** Text of the mesh file; null when there is none. */
  readonly meshFile: string | null;
  readonly parseYaml: (text: string) => unknown;
}

export const MESH_FILE = "./etc/istio/config/mesh";
/** 0x539: redirection rules leave sockets with this mark alone. */
const PACKET_MARK = 1337;
const MAX_WINDOW = 2 ** 31 - 1;
/** HTTP/2 allows frames of 16 KiB to 16 MiB - 1 (RFC 9113 §4.2). */
const FRAME_RANGE = [16_384, 16_777_215] as const;
const DAY_MS = 86_400_000;

/** @throws {ConfigError} naming every variable that is wrong */
export function readConfig(env: Env, around: ConfigSurroundings): Config {
  const r = new ConfigReader(env);
  const proxy = readProxyConfig(r, around.meshFile, r.text("PROXY_CONFIG", null), around.parseYaml);
  refuseUnsupported(r);
  const metadata = readNodeMetadata(r, proxy.proxyMetadata);
  const inCluster = r.text("KUBERNETES_SERVICE_HOST", null) !== null;
  const fallback = `https://${inCluster ? "istiod.istio-system.svc" : "localhost"}:${PORT.xds}`;
  const keepalive = readKeepalive(r);
  return r.done({
    mode: "shared" as const,
    nodeName: r.text("NODE_NAME", ""),
    network: r.text("NETWORK", ""),
    clusterId: textOf(metadata, "CLUSTER_ID") ?? r.text("CLUSTER_ID", "Kubernetes"),
    clusterDomain: r.text("CLUSTER_DOMAIN", "cluster.local"),
    trustDomain: r.text("TRUST_DOMAIN", "cluster.local"),
    xds: readEndpoint(r, "XDS", around.exists, proxy.discoveryAddress ?? fallback),
    ca: readEndpoint(r, "CA", around.exists, fallback),
    token: readTokenSource(r, around.exists),
    secretTtlMs: r.durationMs("SECRET_TTL", DAY_MS),
    preferredServiceNamespace: r.text("PREFERED_SERVICE_NAMESPACE", null),
    inpodUds: r.text("INPOD_UDS", "/var/run/ztunnel/ztunnel.sock"),
    inpodPortReuse: r.bool("INPOD_PORT_REUSE", true),
    packetMark: r.integer("PACKET_MARK", PACKET_MARK, 1, 2 ** 32 - 1),
    ipv6Enabled: r.bool("IPV6_ENABLED", true),
    origSrc: r.bool("ENABLE_ORIG_SRC", null),
    localhostAppTunnel: r.bool("LOCALHOST_APP_TUNNEL", true),
    responseBaggage: r.bool("ENABLE_RESPONSE_BAGGAGE", true),
    pool: {
      maxStreams: r.integer("POOL_MAX_STREAMS_PER_CONNECTION", 100, 1, 65_535),
      unusedReleaseMs: r.durationMs("POOL_UNUSED_RELEASE_TIMEOUT", 300_000),
    },
    http2: {
      streamWindowBytes: r.integer("HTTP2_STREAM_WINDOW_SIZE", 4_194_304, 65_535, MAX_WINDOW),
      connectionWindowBytes: r.integer(
        "HTTP2_CONNECTION_WINDOW_SIZE",
        16_777_216,
        65_535,
        MAX_WINDOW,
      ),
      frameBytes: r.integer("HTTP2_FRAME_SIZE", 1_048_576, ...FRAME_RANGE),
    },
    keepalive,
    drainDeadlineMs: readDrainDeadline(r),
    workerThreads: readWorkerThreads(r, around.cores, proxy.concurrency),
    policyInfoLogging: r.bool("AUTHZ_POLICY_INFO_LOGGING", false),
    dnsCapture: (metadata.get("DNS_CAPTURE") ?? "true") === "true",
    logFilter: readLogFilter(r),
    logFormat: r.oneOf("LOG_FORMAT", ["plain", "json"], "plain"),
    pod: {
      name: r.text("POD_NAME", ""),
      namespace: r.text("POD_NAMESPACE", ""),
      serviceAccount: r.text("SERVICE_ACCOUNT", ""),
      ip: r.text("INSTANCE_IP", "1.1.1.1"),
    },
    istioVersion: textOf(metadata, "ISTIO_VERSION") ?? "unknown",
    nodeMetadata: metadata,
    ports: {
      admin: proxy.proxyAdminPort ?? PORT.ztunnelAdmin,
      metrics: proxy.statsPort ?? PORT.ztunnelMetrics,
      readiness: PORT.ztunnelReadiness,
    },
  });
}

/** What Istio's ztunnel would do and this one would silently not is refused instead. */
function refuseUnsupported(r: ConfigReader): void {
  const mode = r.oneOf("PROXY_MODE", ["shared", "dedicated"], "shared");
  r.unsupported("PROXY_MODE", mode === "dedicated", "only the shared mode exists so far");
  r.unsupported("ENABLE_PROXY", !r.bool("ENABLE_PROXY", true), "DNS alone is not offered");
  r.unsupported("XDS_ON_DEMAND", r.bool("XDS_ON_DEMAND", false), "all resources are subscribed to");
  r.unsupported("FAKE_CA", r.bool("FAKE_CA", false), "certificates come from CA_ADDRESS");
  r.unsupported("UNSTABLE_ENABLE_SOCKS5", r.bool("UNSTABLE_ENABLE_SOCKS5", false), "no SOCKS5");
  r.unsupported("TLS12_ENABLED", r.bool("TLS12_ENABLED", false), "TLS 1.3 only");
  for (const name of ["LOCAL_XDS", "LOCAL_XDS_PATH"])
    r.unsupported(name, r.text(name, null) !== null, "the mesh comes from XDS_ADDRESS");
  r.unsupported("CRL_PATH", r.text("CRL_PATH", null) !== null, "revocation is not checked yet");
  r.unsupported("COMPLIANCE_POLICY", r.text("COMPLIANCE_POLICY", null) !== null, "none is offered");
}

function readKeepalive(r: ConfigReader): Config["keepalive"] {
  const timeMs = r.durationMs("KEEPALIVE_TIME", 180_000);
  const intervalMs = r.durationMs("KEEPALIVE_INTERVAL", 180_000);
  const retries = r.integer("KEEPALIVE_RETRIES", 9, 1, 127);
  const userTimeout = r.bool("USER_TIMEOUT_ENABLED", false);
  return {
    enabled: r.bool("KEEPALIVE_ENABLED", true),
    timeMs,
    intervalMs,
    retries,
    userTimeoutMs: userTimeout ? timeMs + retries * intervalMs : 0,
  };
}

function readWorkerThreads(r: ConfigReader, cores: number, concurrency: number | null): number {
  const limits = [r.cores("ZTUNNEL_CPU_LIMIT"), r.cores("ZTUNNEL_RESOURCE_CPU_LIMIT")];
  const limit = limits.find((l) => l !== null) ?? null;
  const request = r.cores("ZTUNNEL_RESOURCE_CPU_REQUEST") ?? 0;
  const given = r.text("ZTUNNEL_WORKER_THREADS", null);
  if (given !== null) {
    const percent = /^(\d{1,3})%$/.exec(given)?.[1];
    if (percent !== undefined && Number(percent) >= 1 && Number(percent) <= 100)
      return Math.max(1, Math.ceil((cores * Number(percent)) / 100));
    if (/^\d{1,3}$/.test(given)) return Number(given) === 0 ? cores : Number(given);
    r.problem(`ZTUNNEL_WORKER_THREADS=${JSON.stringify(given)}: expected a count, p% or 0`);
  }
  if (concurrency !== null) return concurrency === 0 ? cores : concurrency;
  if (limit !== null) return Math.max(limit, request);
  return Math.max(2, Math.ceil(cores / 4), request);
}

/** The configuration as `/config_dump` shows it: secrets stay hidden, maps become objects. */
export function dumpConfig(config: Config): unknown {
  return JSON.parse(
    JSON.stringify({ ...config, logFilter: config.logFilter.toString() }, (_key, value: unknown) =>
      value instanceof Map ? Object.fromEntries(value) : value,
    ),
  );
}

// Every setting of the waypoint, read once at start and frozen. What a Gateway's Deployment sets has Istio's names.
import { ConfigReader, type Env } from "#lib/base/config-reader.ts";
import { readDrainDeadline } from "#lib/base/drain-deadline.ts";
import { readEndpoint } from "#lib/grpc/control-plane-config.ts";
import type { ControlPlaneEndpoint, TokenSource } from "#lib/grpc/control-plane.ts";
import { tryParseIp, type Ip } from "#lib/net/ip.ts";
import { PORT } from "#lib/net/ports.ts";
import { spiffeId, type SpiffeId } from "#lib/net/spiffe.ts";
import type { LogFilter } from "#lib/obs/log-filter.ts";
import { readLogFilter } from "#lib/obs/read-log-filter.ts";
import { readNodeMetadata, textOf } from "#lib/xds/proxy-node.ts";

export interface Config {
  readonly gateway: {
    readonly name: string;
    /** Policies for this class apply too. */
    readonly className: string;
    /** `namespace/name`. */
    readonly key: string;
  };
  readonly pod: {
    readonly name: string;
    readonly namespace: string;
    readonly serviceAccount: string;
    readonly ip: Ip;
  };
  readonly identity: SpiffeId;
  readonly trustDomain: string;
  readonly nodeName: string;
  readonly clusterId: string;
  readonly xds: ControlPlaneEndpoint;
  readonly ca: ControlPlaneEndpoint;
  readonly token: TokenSource;
  readonly secretTtlMs: number;
  readonly ipv6Enabled: boolean;
  readonly pool: { readonly maxStreams: number; readonly unusedReleaseMs: number };
  readonly keepalive: { readonly idle: number; readonly interval: number; readonly count: number };
  /** After a shutdown began, new connections are still taken this long: clients learn of it one by one. */
  readonly minDrainMs: number;
  /** How long connections may go on after a shutdown began. */
  readonly drainDeadlineMs: number;
  readonly logFilter: LogFilter;
  readonly logFormat: "plain" | "json";
  readonly istioVersion: string;
  readonly nodeMetadata: ReadonlyMap<string, unknown>;
  readonly ports: {
    readonly hbone: number;
    readonly admin: number;
    readonly metrics: number;
    /** The same metrics again, where scrapers of Envoy look. */
    readonly envoyMetrics: number;
    readonly readiness: number;
  };
}

const ROOT_FILE = "/var/run/secrets/istio/root-cert.pem";
const TOKEN_FILE = "/var/run/secrets/tokens/istio-token";
const ISTIOD = "https://istiod.istio-system.svc:15012";
const ENVOY_METRICS_PORT = 15_090;
const DAY_MS = 86_400_000;
/** Seconds; as the node proxy does. */
const KEEPALIVE = { idle: 180, interval: 180, count: 9 } as const;

/** Outside facts, passed in so that reading a configuration stays pure. */
export interface ConfigSurroundings {
  readonly exists: (path: string) => boolean;
  readonly hasIpv6: boolean;
}

/** @throws {ConfigError} naming every variable that is wrong */
export function readConfig(env: Env, { exists, hasIpv6 }: ConfigSurroundings): Config {
  const r = new ConfigReader(env);
  const xds = readEndpoint(r, "XDS", exists, ISTIOD, ROOT_FILE);
  const pod = readPod(r);
  const trustDomain = r.text("TRUST_DOMAIN", "cluster.local");
  const name = required(r, "GATEWAY_NAME");
  const given = readNodeMetadata(r, []);
  const clusterId = textOf(given, "CLUSTER_ID") ?? r.text("CLUSTER_ID", "Kubernetes");
  return r.done({
    gateway: {
      name,
      className: r.text("GATEWAY_CLASS_NAME", "istio-waypoint"),
      key: `${pod.namespace}/${name}`,
    },
    pod,
    identity: spiffeId({ trustDomain, ...pod }),
    trustDomain,
    nodeName: r.text("NODE_NAME", textOf(given, "NODE_NAME") ?? ""),
    clusterId,
    xds,
    ca: readEndpoint(r, "CA", exists, r.text("CA_ADDR", xds.address), ROOT_FILE),
    token: { kind: "file", path: r.text("AUTH_TOKEN", TOKEN_FILE) } as const,
    secretTtlMs: r.durationMs("SECRET_TTL", DAY_MS),
    ipv6Enabled: r.bool("IPV6_ENABLED", true) && hasIpv6,
    pool: {
      maxStreams: r.integer("POOL_MAX_STREAMS_PER_CONNECTION", 100, 1, 65_535),
      unusedReleaseMs: r.durationMs("POOL_UNUSED_RELEASE_TIMEOUT", 300_000),
    },
    keepalive: KEEPALIVE,
    minDrainMs: r.durationMs("MINIMUM_DRAIN_DURATION", 5_000),
    drainDeadlineMs: readDrainDeadline(r),
    logFilter: readLogFilter(r),
    logFormat: r.oneOf("LOG_FORMAT", ["plain", "json"], "plain"),
    istioVersion: textOf(given, "ISTIO_VERSION") ?? "unknown",
    nodeMetadata: new Map<string, unknown>([
      ["SERVICE_ACCOUNT", pod.serviceAccount],
      ["GATEWAY_NAME", name],
      ...given,
    ]),
    ports: {
      hbone: PORT.hbone,
      admin: PORT.ztunnelAdmin,
      metrics: PORT.ztunnelMetrics,
      envoyMetrics: ENVOY_METRICS_PORT,
      readiness: PORT.ztunnelReadiness,
    },
  });
}

function readPod(r: ConfigReader): Config["pod"] {
  const text = required(r, "INSTANCE_IP");
  const ip = tryParseIp(text);
  if (text !== "" && ip === null)
    r.problem(`INSTANCE_IP=${JSON.stringify(text)}: expected an IP address`);
  return {
    name: required(r, "POD_NAME"),
    namespace: required(r, "POD_NAMESPACE"),
    serviceAccount: required(r, "SERVICE_ACCOUNT"),
    ip: ip ?? NO_IP,
  };
}

const NO_IP = "0.0.0.0" as Ip;

function required(r: ConfigReader, name: string): string {
  const value = r.text(name, null);
  if (value === null) r.problem(`${name} is not set`);
  return value ?? "";
}

/** The configuration as `/config_dump` shows it: secrets stay hidden, maps become objects. */
export function dumpConfig(config: Config): unknown {
  return JSON.parse(
    JSON.stringify({ ...config, logFilter: config.logFilter.toString() }, (_key, value: unknown) =>
      value instanceof Map ? Object.fromEntries(value) : value,
    ),
  );
}

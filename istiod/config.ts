// istiod's settings: environment variables with Istio's names, and the mesh configuration file.
import { hostname } from "node:os";
import { type Cidr, formatCidr, parseCidr } from "#lib/net/cidr.ts";
import type { LogOptions } from "#lib/obs/log.ts";
import { EnvReader, type Env } from "./env-reader.ts";
import { readMeshConfig, type MeshConfig } from "./mesh-config.ts";

export interface Config {
  /** Directory that stands for the cluster. `MANIFEST_DIR`; `null` takes the API server */
  readonly manifestDir: string | null;
  /** How to reach the API server. `KUBECONFIG`; `null` is the pod's own service account */
  readonly kubeconfig: string | null;
  /** xDS and CA over TLS. `ISTIOD_ADDR`, default every address, port 15012 */
  readonly address: string;
  /**
   * Readiness, metrics, debug. `MONITORING_ADDR`, default port 15014 of 127.0.0.1, or of every address
   * on Kubernetes, where kubelets and Prometheus come from outside the pod
   */
  readonly monitoringAddress: string;
  /** Public keys of the token issuer, without an API server to ask. `JWKS_FILE` */
  readonly jwksFile: string | null;
  /** `TOKEN_AUDIENCES`, default istio-ca */
  readonly tokenAudiences: readonly string[];
  /** `TOKEN_ISSUER`; `null` takes any issuer whose keys are in the file */
  readonly tokenIssuer: string | null;
  /** Plugged-in CA. `ROOT_CA_DIR`, default ./etc/cacerts */
  readonly rootCaDir: string;
  /** Where a self-signed root is kept. `CA_STATE_DIR`; `null` keeps it in memory */
  readonly caStateDir: string | null;
  /** The root bundle for clients is written here. `ROOT_CERT_FILE` */
  readonly rootCertFile: string | null;
  /** `ISTIO_MULTIROOT_MESH`: let a reload change the roots to a superset or subset */
  readonly allowRootChange: boolean;
  /** `DEFAULT_WORKLOAD_CERT_TTL`, default 24h */
  readonly defaultCertTtlMs: number;
  /** `MAX_WORKLOAD_CERT_TTL`, default 2160h */
  readonly maxCertTtlMs: number;
  /** `CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL`, default 1h; 0 never renews the root */
  readonly rootCheckMs: number;
  /** `ENABLE_LEADER_ELECTION`: off says that this is the only replica */
  readonly electsLeader: boolean;
  /** Who this replica is in an election. `POD_NAME`, default the host name */
  readonly podName: string;
  /** ConfigMap of the root bundle in every namespace. `PILOT_CA_CERT_CONFIGMAP`, default istio-ca-root-cert */
  readonly rootConfigMap: string;
  /** Gateways become waypoints and have a status. `PILOT_ENABLE_GATEWAY_API` */
  readonly gatewayApi: boolean;
  /** What waypoints run from. `AMBIT_IMAGE`; `null` takes the image of istiod's own pod */
  readonly waypointImage: string | null;
  /** Taint taken off nodes whose CNI agent is ready; `null` with `PILOT_ENABLE_NODE_UNTAINT_CONTROLLERS` off */
  readonly untaint: { readonly taint: string; readonly namespace: string } | null;
  /** `namespace/serviceAccount` of node proxies. `CA_TRUSTED_NODE_ACCOUNTS` */
  readonly trustedNodeAccounts: ReadonlySet<string>;
  /** Further names of our certificate. `ISTIOD_CUSTOM_HOST` */
  readonly customHosts: readonly string[];
  /** `CLUSTER_ID`, default Kubernetes */
  readonly clusterId: string;
  /** Where istiod runs. `POD_NAMESPACE`, default istio-system */
  readonly namespace: string;
  /** `REVISION`; empty is the default one */
  readonly revision: string;
  /** DNS suffix of Services. `DOMAIN`, default cluster.local */
  readonly domain: string;
  /** Connections move on after this. `GRPC_MAX_CONNECTION_AGE`, default never */
  readonly maxConnectionAgeMs: number | null;
  /** Time for open streams at the end. `SHUTDOWN_DURATION`, default 10s */
  readonly shutdownMs: number;
  /** `PILOT_AUTO_ALLOW_WAYPOINT_POLICY` */
  readonly autoAllowWaypointPolicy: boolean;
  /** `AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY` */
  readonly dryRunPolicies: boolean;
  /** `PILOT_ENABLE_SERVICEENTRY_SELECT_PODS` */
  readonly serviceEntriesSelectPods: boolean;
  /** `PILOT_ENABLE_K8S_SELECT_WORKLOAD_ENTRIES` */
  readonly servicesSelectWorkloadEntries: boolean;
  /** `AMBIT_L7_DENY_AT_L4`: ignored (Istio's) or denied */
  readonly l7DenyAtL4: "ignored" | "denied";
  /** Conditions are written to the objects they are about. `AMBIENT_ENABLE_STATUS` */
  readonly writesStatus: boolean;
  /**
   * Ranges for ServiceEntries without addresses; `null` with `PILOT_ENABLE_IP_AUTOALLOCATE` off.
   * `PILOT_IP_AUTOALLOCATE_IPV4_PREFIX`, `PILOT_IP_AUTOALLOCATE_IPV6_PREFIX`
   */
  readonly allocation: { readonly v4: Cidr; readonly v6: Cidr } | null;
  /** `TRUST_DOMAIN`: stands above the one of the mesh configuration */
  readonly trustDomain: string | null;
  /** Followed while istiod runs. `MESH_CONFIG`; `null` on Kubernetes: ConfigMap `istio` or `istio-<revision>` */
  readonly meshConfigFile: string | null;
  /** As the file was at the start, `trustDomain` put in. */
  readonly mesh: MeshConfig;
  readonly logLevel: LogOptions["level"];
  readonly logFormat: LogOptions["format"];
}

const LEVELS = ["trace", "debug", "info", "warn", "error", "silent"] as const;
const ACCOUNT = /^[^/\s]+\/[^/\s]+$/;

/** @throws {IstiodError} `CONFIG_INVALID` naming every mistake at once */
export function readConfig(env: Env): Config {
  const r = new EnvReader(env);
  const trusted = r.list("CA_TRUSTED_NODE_ACCOUNTS", "");
  for (const account of trusted)
    if (!ACCOUNT.test(account))
      r.problem(
        `CA_TRUSTED_NODE_ACCOUNTS has ${JSON.stringify(account)}, expected namespace/account`,
      );
  const defaultCertTtlMs = r.durationMs("DEFAULT_WORKLOAD_CERT_TTL", "24h");
  const maxCertTtlMs = r.durationMs("MAX_WORKLOAD_CERT_TTL", "2160h");
  if (defaultCertTtlMs > maxCertTtlMs)
    r.problem("DEFAULT_WORKLOAD_CERT_TTL is longer than MAX_WORKLOAD_CERT_TTL");
  const trustDomain = r.optional("TRUST_DOMAIN")?.replaceAll("@", ".") ?? null;
  const meshConfigFile = r.optional("MESH_CONFIG");
  const mesh = readMeshConfig(meshConfigFile, (problem) => r.problem(problem));
  const prefixes = {
    v4: prefix(r, "PILOT_IP_AUTOALLOCATE_IPV4_PREFIX", "240.240.0.0/16", 4),
    v6: prefix(r, "PILOT_IP_AUTOALLOCATE_IPV6_PREFIX", "2001:2::/48", 16),
  };
  const manifestDir = r.optional("MANIFEST_DIR");
  const isDirectory = manifestDir !== null;
  const namespace = r.text("POD_NAMESPACE", "istio-system");
  return r.done({
    manifestDir,
    kubeconfig: r.optional("KUBECONFIG"),
    address: r.address("ISTIOD_ADDR", "[::]:15012"),
    monitoringAddress: r.address("MONITORING_ADDR", isDirectory ? "127.0.0.1:15014" : "[::]:15014"),
    jwksFile: isDirectory
      ? r.required("JWKS_FILE", "the public keys of the token issuer, as a JSON Web Key Set")
      : null,
    tokenAudiences: r.list("TOKEN_AUDIENCES", "istio-ca"),
    tokenIssuer: r.optional("TOKEN_ISSUER"),
    rootCaDir: r.text("ROOT_CA_DIR", "./etc/cacerts"),
    caStateDir: r.optional("CA_STATE_DIR"),
    rootCertFile: r.optional("ROOT_CERT_FILE"),
    allowRootChange: r.boolean("ISTIO_MULTIROOT_MESH", false),
    defaultCertTtlMs,
    maxCertTtlMs,
    rootCheckMs: r.durationMs("CITADEL_SELF_SIGNED_ROOT_CERT_CHECK_INTERVAL", "1h"),
    electsLeader: r.boolean("ENABLE_LEADER_ELECTION", true),
    podName: r.text("POD_NAME", hostname()),
    rootConfigMap: r.text("PILOT_CA_CERT_CONFIGMAP", "istio-ca-root-cert"),
    gatewayApi: r.boolean("PILOT_ENABLE_GATEWAY_API", true),
    waypointImage: r.optional("AMBIT_IMAGE"),
    untaint: r.boolean("PILOT_ENABLE_NODE_UNTAINT_CONTROLLERS", false)
      ? {
          taint: r.text("PILOT_NODE_UNTAINT_TAINT", "cni.istio.io/not-ready"),
          namespace: r.text("CNI_NAMESPACE", namespace),
        }
      : null,
    trustedNodeAccounts: new Set(trusted),
    customHosts: r.list("ISTIOD_CUSTOM_HOST", ""),
    clusterId: r.text("CLUSTER_ID", "Kubernetes"),
    namespace,
    revision: r.text("REVISION", ""),
    domain: r.text("DOMAIN", "cluster.local"),
    maxConnectionAgeMs: r.durationMs("GRPC_MAX_CONNECTION_AGE", "0") || null,
    shutdownMs: r.durationMs("SHUTDOWN_DURATION", "10s"),
    autoAllowWaypointPolicy: r.boolean("PILOT_AUTO_ALLOW_WAYPOINT_POLICY", false),
    dryRunPolicies: r.boolean("AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY", false),
    serviceEntriesSelectPods: r.boolean("PILOT_ENABLE_SERVICEENTRY_SELECT_PODS", true),
    servicesSelectWorkloadEntries: r.boolean("PILOT_ENABLE_K8S_SELECT_WORKLOAD_ENTRIES", true),
    l7DenyAtL4: r.oneOf("AMBIT_L7_DENY_AT_L4", ["ignored", "denied"], "ignored"),
    writesStatus: r.boolean("AMBIENT_ENABLE_STATUS", true),
    allocation: r.boolean("PILOT_ENABLE_IP_AUTOALLOCATE", true) ? prefixes : null,
    trustDomain,
    meshConfigFile,
    mesh: effectiveMesh(mesh, { trustDomain }),
    logLevel: r.oneOf("LOG_LEVEL", LEVELS, "info"),
    logFormat: r.oneOf("LOG_FORMAT", ["plain", "json"], "plain"),
  });
}

/** The mesh configuration under the settings that stand above it. */
export function effectiveMesh(mesh: MeshConfig, config: Pick<Config, "trustDomain">): MeshConfig {
  const { trustDomain } = config;
  return trustDomain === null ? mesh : { ...mesh, trustDomain };
}

function prefix(r: EnvReader, name: string, fallback: string, bytes: 4 | 16): Cidr {
  const value = r.text(name, fallback);
  try {
    const cidr = parseCidr(value);
    // At least one address beside the network's own.
    if (cidr.bytes.length === bytes && cidr.bits < bytes * 8) return cidr;
  } catch {
    // reported below
  }
  const family = bytes === 4 ? "IPv4" : "IPv6";
  r.problem(`${name}=${JSON.stringify(value)} is no ${family} range such as ${fallback}`);
  return parseCidr(fallback);
}

/** The settings as `/debug/configz` shows them: nothing in them is secret. */
export function dumpConfig(config: Config): Record<string, unknown> {
  const { allocation, trustedNodeAccounts } = config;
  return {
    ...config,
    trustedNodeAccounts: [...trustedNodeAccounts],
    allocation:
      allocation === null ? null : { v4: formatCidr(allocation.v4), v6: formatCidr(allocation.v6) },
  };
}

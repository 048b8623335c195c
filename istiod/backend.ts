// What istiod runs on: the API server of a cluster, or a directory of manifests that stands for one.
import { type Clock, systemClock } from "#lib/base/clock.ts";
import type { ApiServerCluster } from "#lib/kube/api-server/api-server-cluster.ts";
import type { Cluster } from "#lib/kube/cluster.ts";
import type { Logger } from "#lib/obs/log.ts";
import { TokenVerifier } from "#lib/pki/jwt.ts";
import { CacertsSecret } from "./ca/cacerts-secret.ts";
import { CaSource } from "./ca/ca-source.ts";
import { FileRootStore } from "./ca/file-root-store.ts";
import { MemoryRootStore, type RootStore } from "./ca/root-store.ts";
import { SecretRootStore } from "./ca/secret-root-store.ts";
import { type Config, effectiveMesh } from "./config.ts";
import type { MeshConfig } from "./mesh-config.ts";
import { MeshConfigFile } from "./mesh-config-file.ts";
import { MeshConfigMap } from "./mesh-config-map.ts";
import type { MeshConfigUpdatesOptions } from "./mesh-config-updates.ts";
import type { TokenCheck } from "./token-check.ts";
import { TokenReviewer } from "./token-review.ts";

export interface Backend {
  readonly cluster: Cluster;
  /** The same cluster, if it is an API server; `null` over a directory. */
  readonly api: ApiServerCluster | null;
  readonly tokens: TokenCheck;
  caSource(trustDomain: string): CaSource;
  /** As in force at the start. @throws {IstiodError} `CONFIG_INVALID` */
  readMesh(signal: AbortSignal): Promise<MeshConfig>;
  /** Offers later versions, until `signal` aborts. */
  watchMesh(updates: MeshConfigUpdatesOptions, signal: AbortSignal): Promise<void>;
}

interface Parts {
  readonly config: Config;
  readonly log: Logger;
  readonly clock: Clock;
}

/** @param cluster borrowed */
export function directoryBackend(config: Config, cluster: Cluster, log: Logger): Backend {
  const parts = { config, log, clock: systemClock };
  const { caStateDir, jwksFile, tokenAudiences: audiences, tokenIssuer: issuer } = config;
  return {
    cluster,
    api: null,
    tokens: new TokenVerifier({
      jwksFile: jwksFile ?? "",
      audiences,
      issuer,
      now: systemClock.now,
    }),
    caSource: (trustDomain) => caSource(parts, trustDomain, fileStore(caStateDir, log), null),
    readMesh: async () => config.mesh,
    watchMesh: (updates, signal) => watchMeshFile(parts, updates, signal),
  };
}

/** @param api borrowed */
export function apiServerBackend(config: Config, api: ApiServerCluster, log: Logger): Backend {
  const parts = { config, log, clock: systemClock };
  const { namespace, revision, meshConfigFile, tokenAudiences: audiences } = config;
  const map = new MeshConfigMap({ cluster: api, namespace, revision, log });
  return {
    cluster: api,
    api,
    tokens: new TokenReviewer({ apiServer: api.apiServer, audiences, now: systemClock.now }),
    caSource: (trustDomain) =>
      caSource(
        parts,
        trustDomain,
        new SecretRootStore(api, namespace),
        new CacertsSecret(api, namespace, log),
      ),
    // A mounted file stands above the ConfigMap.
    readMesh: async (signal) =>
      meshConfigFile === null
        ? effectiveMesh(await map.read(systemClock, signal), config)
        : config.mesh,
    watchMesh: (updates, signal) =>
      meshConfigFile === null ? map.watch(updates, signal) : watchMeshFile(parts, updates, signal),
  };
}

function caSource(
  { config, log, clock }: Parts,
  trustDomain: string,
  store: RootStore,
  secret: CacertsSecret | null,
): CaSource {
  const { rootCaDir, rootCheckMs } = config;
  return new CaSource({
    rootCaDir,
    secret,
    store,
    trustDomain,
    rootCheckMs,
    clock,
    random: Math.random,
    log,
  });
}

function fileStore(dir: string | null, log: Logger): RootStore {
  if (dir !== null) return new FileRootStore(dir);
  log.warn("CA_STATE_DIR is not set: a self-signed root is lost when istiod stops");
  return new MemoryRootStore();
}

async function watchMeshFile(
  { config, log, clock }: Parts,
  updates: MeshConfigUpdatesOptions,
  signal: AbortSignal,
): Promise<void> {
  const { meshConfigFile: path } = config;
  if (path === null) return;
  await new MeshConfigFile({ ...updates, path, log, clock }).watch(signal);
}

// Everything an istiod sends to a ztunnel, asked for once over xDS and handed on as bytes.
import { setTimeout as sleep } from "node:timers/promises";
import { systemClock } from "#lib/base/clock.ts";
import { createLogger } from "#lib/obs/log.ts";
import { DeltaClient, type ReceivedResource } from "#lib/xds/delta-client.ts";
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from "#lib/xds/type-urls.ts";
import { LabError } from "./errors.ts";
import { ISTIOD_HOST, SYSTEM_NAMESPACE } from "./mesh-parts.ts";

const ANSWER_TIMEOUT_MS = 10_000;
/** Of one type. Far more than a lab has; far less than istiod puts in one answer, so that the first one is all. */
const MAX_BYTES = 32 * 1024 * 1024;
/** As good as any in the system namespace: xDS shows everybody the same. */
export const SNAPSHOT_ACCOUNT = "snapshot";

export interface SnapshotResource {
  readonly name: string;
  /** The resource as sent, base64. */
  readonly bytes: string;
}

export interface XdsSnapshot {
  /** Serialised istio.workload.Address. */
  readonly addresses: readonly SnapshotResource[];
  /** Serialised istio.security.Authorization. */
  readonly policies: readonly SnapshotResource[];
}

export interface SnapshotRequest {
  /** `ip:port` of an istiod that is ready. */
  readonly address: string;
  /** PEM. */
  readonly rootCert: Uint8Array;
  /** Of `SNAPSHOT_ACCOUNT`. */
  readonly token: string;
}

/** @throws {LabError} `NOT_READY` without a complete answer in time */
export async function xdsSnapshot({
  address,
  rootCert,
  token,
}: SnapshotRequest): Promise<XdsSnapshot> {
  const held = { [ADDRESS_TYPE]: new Holding(), [AUTHORIZATION_TYPE]: new Holding() };
  const client = new DeltaClient({
    address: `https://${address}`,
    altHostname: ISTIOD_HOST,
    rootCert: async () => rootCert,
    token: async () => token,
    clusterId: "Kubernetes",
    node: {
      id: `ztunnel~127.0.0.1~${SNAPSHOT_ACCOUNT}.${SYSTEM_NAMESPACE}~${SYSTEM_NAMESPACE}.svc.cluster.local`,
      metadata: { NAMESPACE: SYSTEM_NAMESPACE, SERVICE_ACCOUNT: SNAPSHOT_ACCOUNT },
    },
    types: Object.entries(held).map(([typeUrl, holding]) => ({
      typeUrl,
      apply: ({ resources, isLast }) => holding.add(resources, isLast),
    })),
    log: createLogger({ scope: "snapshot", level: "silent", format: "plain" }),
    clock: systemClock,
  });
  const over = new AbortController();
  const running = client.run(over.signal);
  try {
    const complete = Promise.all(Object.values(held).map((h) => h.complete));
    const late = sleep(ANSWER_TIMEOUT_MS, null, { signal: over.signal }).catch(() => null);
    if ((await Promise.race([complete, late])) === null)
      throw new LabError("NOT_READY", `No answer over xDS within ${ANSWER_TIMEOUT_MS} ms`);
    return { addresses: held[ADDRESS_TYPE].list(), policies: held[AUTHORIZATION_TYPE].list() };
  } finally {
    over.abort();
    await running;
  }
}

/** The first answer of one type. */
class Holding {
  readonly #resources = new Map<string, string>();
  readonly #complete = Promise.withResolvers<true>();
  #bytes = 0;

  get complete(): Promise<true> {
    return this.#complete.promise;
  }

  add(resources: readonly ReceivedResource[], isLast: boolean): [] {
    for (const { name, bytes } of resources) {
      this.#bytes += bytes.length;
      if (this.#bytes > MAX_BYTES) {
        const error = new LabError("UNSUPPORTED", `The mesh is larger than ${MAX_BYTES} bytes`);
        this.#complete.reject(error);
        return [];
      }
      this.#resources.set(name, Buffer.from(bytes).toString("base64"));
    }
    if (isLast) this.#complete.resolve(true);
    return [];
  }

  list(): SnapshotResource[] {
    return [...this.#resources].map(([name, bytes]) => ({ name, bytes }));
  }
}

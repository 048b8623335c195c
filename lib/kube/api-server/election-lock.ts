// Where a leader writes that it leads: a Lease, or the annotation of a ConfigMap that Istio's older
// controllers use, so that theirs and ours never work at the same time.
import type { KubeObject } from "../cluster.ts";
import { isJsonObject, type JsonObject, textOf } from "../json.ts";
import type { ConfigMap, Lease } from "../objects.ts";
import { RESOURCES } from "../objects.ts";
import type { ApiServerCluster } from "./api-server-cluster.ts";

export interface ElectionRecord {
  /** "" when nobody leads. */
  readonly holder: string;
  /** Istio's `holderKey`: the revision of the holder; "" when there is none. */
  readonly holderKey: string;
  readonly durationSeconds: number;
  /** Milliseconds since the epoch. */
  readonly acquiredAt: number;
  readonly renewedAt: number;
  readonly transitions: number;
}

export interface HeldRecord {
  readonly record: ElectionRecord;
  /** `resourceVersion`: a write must find this one. */
  readonly version: string;
}

/** Writes throw `KubeError`: `ALREADY_EXISTS`, `CONFLICT` or `NOT_FOUND` when somebody was faster. */
export interface ElectionLock {
  read(): Promise<HeldRecord | null>;
  create(record: ElectionRecord): Promise<HeldRecord>;
  update(record: ElectionRecord, version: string): Promise<HeldRecord>;
}

export interface LockPlace {
  readonly cluster: ApiServerCluster;
  readonly namespace: string;
  readonly name: string;
}

const FIELD_MANAGER = "ambit-leader-election";
const ANNOTATION = "control-plane.alpha.kubernetes.io/leader";

/** coordination.k8s.io/v1 Lease. */
export function leaseLock({ cluster, namespace, name }: LockPlace): ElectionLock {
  const resource = RESOURCES.leases;
  const options = { fieldManager: FIELD_MANAGER };
  const held = (lease: Lease): HeldRecord => ({
    version: versionOf(lease),
    record: {
      holder: lease.spec?.holderIdentity ?? "",
      holderKey: "",
      durationSeconds: lease.spec?.leaseDurationSeconds ?? 0,
      acquiredAt: Date.parse(lease.spec?.acquireTime ?? "") || 0,
      renewedAt: Date.parse(lease.spec?.renewTime ?? "") || 0,
      transitions: lease.spec?.leaseTransitions ?? 0,
    },
  });
  const spec = (record: ElectionRecord): JsonObject => ({
    // An empty name is refused: no holder is no field.
    holderIdentity: record.holder === "" ? null : record.holder,
    leaseDurationSeconds: record.durationSeconds,
    acquireTime: microTime(record.acquiredAt),
    renewTime: microTime(record.renewedAt),
    leaseTransitions: record.transitions,
  });
  return {
    read: async () => {
      const lease = await cluster.get(resource, namespace, name);
      return lease === null ? null : held(lease);
    },
    create: async (record) => {
      const lease = {
        apiVersion: "coordination.k8s.io/v1",
        kind: "Lease",
        metadata: { name, namespace },
        spec: spec(record),
      };
      // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- `null` is absent to the server
      return held(await cluster.create(resource, lease as unknown as Lease, options));
    },
    update: async (record, resourceVersion) => {
      const patch = { metadata: { resourceVersion }, spec: spec(record) };
      return held(await cluster.patch(resource, namespace, name, patch, options));
    },
  };
}

/** client-go's former ConfigMap lock, as Istio keeps it. */
export function configMapLock({ cluster, namespace, name }: LockPlace): ElectionLock {
  const resource = RESOURCES.configMaps;
  const options = { fieldManager: FIELD_MANAGER };
  const held = (map: ConfigMap): HeldRecord => ({
    version: versionOf(map),
    record: parseAnnotation(map.metadata.annotations?.[ANNOTATION] ?? ""),
  });
  return {
    read: async () => {
      const map = await cluster.get(resource, namespace, name);
      return map === null ? null : held(map);
    },
    create: async (record) => {
      const annotations = { [ANNOTATION]: annotationOf(record) };
      const metadata = { name, namespace, annotations };
      const map = { apiVersion: "v1", kind: "ConfigMap", metadata };
      return held(await cluster.create(resource, map, options));
    },
    update: async (record, resourceVersion) => {
      const annotations = { [ANNOTATION]: annotationOf(record) };
      const patch = { metadata: { resourceVersion, annotations } };
      return held(await cluster.patch(resource, namespace, name, patch, options));
    },
  };
}

function annotationOf(record: ElectionRecord): string {
  return JSON.stringify({
    holderIdentity: record.holder,
    ...(record.holderKey === "" ? {} : { holderKey: record.holderKey }),
    leaseDurationSeconds: record.durationSeconds,
    acquireTime: secondTime(record.acquiredAt),
    renewTime: secondTime(record.renewedAt),
    leaderTransitions: record.transitions,
  });
}

/** What nobody can read is nobody's. */
function parseAnnotation(text: string): ElectionRecord {
  let value: unknown = null;
  try {
    value = JSON.parse(text);
  } catch {
    // as if it were not there
  }
  const said = isJsonObject(value) ? value : {};
  const number = (field: string): number =>
    typeof said[field] === "number" ? Number(said[field]) : 0;
  return {
    holder: textOf(said.holderIdentity),
    holderKey: textOf(said.holderKey),
    durationSeconds: number("leaseDurationSeconds"),
    acquiredAt: Date.parse(textOf(said.acquireTime)) || 0,
    renewedAt: Date.parse(textOf(said.renewTime)) || 0,
    transitions: number("leaderTransitions"),
  };
}

function versionOf(object: KubeObject): string {
  return object.metadata.resourceVersion ?? "";
}

/** `metav1.MicroTime`: six digits. */
function microTime(ms: number): string {
  return new Date(ms).toISOString().replace(/Z$/, "000Z");
}

/** `metav1.Time`: whole seconds. */
function secondTime(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, "Z");
}

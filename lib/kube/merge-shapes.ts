// How the fields of Kubernetes' own kinds merge in a strategic merge patch (strategic-merge.ts).
// Source: the `patchStrategy` and `patchMergeKey` tags of k8s.io/api.
import { groupOf } from "./objects.ts";

/** How a field merges. Without `by`, lists are replaced and mappings merge. */
export interface Shape {
  /** A list of mappings told apart by this member, or a list of values that is a set. */
  readonly by?: ListKey | "value";
  /** A mapping that is replaced as a whole. */
  readonly replaced?: true;
  readonly fields?: Readonly<Record<string, Shape>>;
}

export interface ListKey {
  readonly key: string;
  /** Entries of one port may differ in this: kustomize looks at it, kubectl does not. */
  readonly hasProtocol?: true;
}

/** A mapping without lists that merge. */
export const PLAIN: Shape = {};

const NAMED: Shape = { by: { key: "name" } };
const METADATA: Shape = {
  fields: { finalizers: { by: "value" }, ownerReferences: { by: { key: "uid" } } },
};
const CONTAINERS: Shape = {
  by: { key: "name" },
  fields: {
    env: NAMED,
    ports: { by: { key: "containerPort", hasProtocol: true } },
    volumeDevices: { by: { key: "devicePath" } },
    volumeMounts: { by: { key: "mountPath" } },
  },
};
const POD_SPEC: Shape = {
  fields: {
    containers: CONTAINERS,
    ephemeralContainers: CONTAINERS,
    hostAliases: { by: { key: "ip" } },
    imagePullSecrets: NAMED,
    initContainers: CONTAINERS,
    resourceClaims: NAMED,
    schedulingGates: NAMED,
    topologySpreadConstraints: { by: { key: "topologyKey" } },
    volumes: NAMED,
  },
};
const WEBHOOKS: Shape = { by: { key: "name" }, fields: { matchConditions: NAMED } };

const object = (fields: Readonly<Record<string, Shape>> = {}): Shape => ({
  fields: { metadata: METADATA, ...fields },
});
const spec = (fields: Readonly<Record<string, Shape>>): Shape => object({ spec: { fields } });
const TEMPLATE: Shape = object({ spec: POD_SPEC });
const WORKLOAD = spec({ template: TEMPLATE });

const SHAPES: Readonly<Record<string, Shape>> = {
  "/Pod": object({ spec: POD_SPEC }),
  "/PodTemplate": object({ template: TEMPLATE }),
  "/ReplicationController": WORKLOAD,
  "/Service": spec({ ports: { by: { key: "port", hasProtocol: true } } }),
  "/ServiceAccount": object({ secrets: NAMED }),
  "admissionregistration.k8s.io/MutatingWebhookConfiguration": object({ webhooks: WEBHOOKS }),
  "admissionregistration.k8s.io/ValidatingAdmissionPolicy": spec({
    matchConditions: NAMED,
    variables: NAMED,
  }),
  "admissionregistration.k8s.io/ValidatingWebhookConfiguration": object({ webhooks: WEBHOOKS }),
  "apps/DaemonSet": WORKLOAD,
  "apps/Deployment": WORKLOAD,
  "apps/ReplicaSet": WORKLOAD,
  "apps/StatefulSet": WORKLOAD,
  "batch/CronJob": spec({ jobTemplate: WORKLOAD }),
  "batch/Job": WORKLOAD,
  "policy/PodDisruptionBudget": spec({ selector: { replaced: true } }),
};

/** Groups of the API server itself; lists of all others are replaced, as in RFC 7386. */
const BUILT_IN = /^(|apps|batch|autoscaling|policy|(?!gateway\.)[a-z.]+\.k8s\.io)$/;

export function shapeOf(apiVersion: string, kind: string): Shape {
  const group = groupOf(apiVersion);
  return SHAPES[`${group}/${kind}`] ?? (BUILT_IN.test(group) ? object() : PLAIN);
}

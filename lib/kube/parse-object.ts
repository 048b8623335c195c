// The edge where manifests become objects: names, labels and the fields of the kinds the mesh knows
// are checked here once, so that readers need not look again.
import type { KubeObject, Resource } from "./cluster.ts";
import { groupOf, kindKey, RESOURCES } from "./objects.ts";
import { dropNulls, isJsonObject, type Json } from "./json.ts";
import {
  type Check,
  count,
  FieldError,
  flag,
  integer,
  list,
  map,
  matching,
  object,
  oneOf,
  port,
  portOrName,
  text,
} from "./schema.ts";

const DNS_LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const DNS_SUBDOMAIN =
  /^(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const QUALIFIED_NAME =
  /^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/;
const LABEL_VALUE = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/;

const label = matching(DNS_LABEL, "a DNS label (lower-case letters, digits, '-', at most 63)");
/** Names of roles hold colons, others are no DNS names either: whatever fits into a URL's path. */
const pathSegment = matching(/^(?!\.{1,2}$)[^/%\s]{1,253}$/, "a name without '/', '%' or blanks");
const subdomain = matching(DNS_SUBDOMAIN, "a DNS name (lower-case letters, digits, '-', '.')");
const qualified = matching(QUALIFIED_NAME, "a label key like app or example.org/app");
const labels = map(
  matching(LABEL_VALUE, "a label value (letters, digits, '-_.', at most 63)"),
  qualified,
);
/** The API server takes annotation keys in any case. */
const annotations = map(
  text,
  matching(new RegExp(QUALIFIED_NAME, "i"), "an annotation key like note or example.org/note"),
);
const texts = list(text);
const modes = oneOf("UNSET", "DISABLE", "PERMISSIVE", "STRICT");
const conditions = list(
  object(
    {
      type: text,
      status: oneOf("True", "False", "Unknown"),
      reason: text,
      message: text,
      observedGeneration: count,
      lastTransitionTime: text,
    },
    "type",
    "status",
  ),
);
const labelSelector = object({
  matchLabels: labels,
  matchExpressions: list(
    object(
      { key: qualified, operator: oneOf("In", "NotIn", "Exists", "DoesNotExist"), values: texts },
      "key",
      "operator",
    ),
  ),
});
const container = object(
  {
    name: text,
    image: text,
    command: texts,
    args: texts,
    env: list(object({ name: text, value: text }, "name")),
    ports: list(object({ name: text, containerPort: port, protocol: text }, "containerPort")),
    restartPolicy: text,
  },
  "name",
);
const podSpec = object({
  serviceAccountName: text,
  nodeName: text,
  hostNetwork: flag,
  hostname: text,
  subdomain: text,
  containers: list(container),
  initContainers: list(container),
});
const controller = object({
  spec: object({
    replicas: count,
    selector: labelSelector,
    template: object({ metadata: object({ labels, annotations }), spec: podSpec }),
  }),
});
const workload = object({
  address: text,
  ports: map(port),
  labels,
  network: text,
  locality: text,
  weight: count,
  serviceAccount: text,
});
const istioSelector = object({ matchLabels: map(text) });
const targetRef = object({ group: text, kind: text, name: text, namespace: text }, "kind", "name");
const status = object({ conditions });

/** Says nothing of the value: it is secret. */
const secretText: Check = (value, path) => {
  if (typeof value !== "string") throw new FieldError(path, "expected text");
};
const RBAC_GROUP = "rbac.authorization.k8s.io";

const KINDS: Readonly<Record<string, Check>> = {
  [kindKey(RESOURCES.pods)]: object({
    spec: podSpec,
    status: object({
      phase: text,
      podIP: text,
      podIPs: list(object({ ip: text }, "ip")),
      hostIP: text,
      conditions,
    }),
  }),
  [kindKey(RESOURCES.nodes)]: object({
    status: object({ addresses: list(object({ type: text, address: text }, "type", "address")) }),
  }),
  [kindKey(RESOURCES.services)]: object({
    spec: object({
      type: oneOf("ClusterIP", "NodePort", "LoadBalancer", "ExternalName"),
      clusterIP: text,
      clusterIPs: texts,
      externalName: text,
      selector: map(text),
      ports: list(
        object(
          { name: text, port, protocol: text, targetPort: portOrName, appProtocol: text },
          "port",
        ),
      ),
      ipFamilies: list(oneOf("IPv4", "IPv6")),
      ipFamilyPolicy: text,
      internalTrafficPolicy: oneOf("Cluster", "Local"),
      trafficDistribution: text,
      publishNotReadyAddresses: flag,
    }),
    status,
  }),
  [kindKey(RESOURCES.endpointSlices)]: object(
    {
      addressType: oneOf("IPv4", "IPv6", "FQDN"),
      ports: list(object({ name: text, port, protocol: text, appProtocol: text })),
      endpoints: list(
        object(
          {
            addresses: texts,
            hostname: text,
            nodeName: text,
            conditions: object({ ready: flag, serving: flag, terminating: flag }),
            targetRef: object({ kind: text, namespace: text, name: text, uid: text }),
          },
          "addresses",
        ),
      ),
    },
    "addressType",
  ),
  [kindKey(RESOURCES.configMaps)]: object({ data: map(text) }),
  [kindKey(RESOURCES.secrets)]: object({
    type: text,
    data: map(secretText),
    stringData: map(secretText),
  }),
  [kindKey(RESOURCES.leases)]: object({
    spec: object({
      holderIdentity: text,
      leaseDurationSeconds: integer(0, 0x7fff_ffff),
      acquireTime: text,
      renewTime: text,
      leaseTransitions: integer(0, 0x7fff_ffff),
    }),
  }),
  [kindKey(RESOURCES.deployments)]: controller,
  [kindKey(RESOURCES.daemonSets)]: controller,
  [kindKey(RESOURCES.statefulSets)]: controller,
  [kindKey(RESOURCES.workloadEntries)]: object({ spec: workload, status }),
  [kindKey(RESOURCES.serviceEntries)]: object({
    spec: object({
      hosts: texts,
      addresses: texts,
      ports: list(object({ number: port, name: text, protocol: text, targetPort: port }, "number")),
      location: oneOf("MESH_EXTERNAL", "MESH_INTERNAL"),
      resolution: oneOf("NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"),
      endpoints: list(workload),
      workloadSelector: object({ labels: map(text) }),
      subjectAltNames: texts,
    }),
    status: object({ addresses: list(object({ value: text, host: text }, "value")), conditions }),
  }),
  [kindKey(RESOURCES.authorizationPolicies)]: object({
    spec: object({
      selector: istioSelector,
      targetRef,
      targetRefs: list(targetRef),
      action: oneOf("ALLOW", "DENY", "AUDIT", "CUSTOM"),
      rules: list(
        object({
          from: list(object({ source: map(texts) })),
          to: list(object({ operation: map(texts) })),
          when: list(object({ key: text, values: texts, notValues: texts }, "key")),
        }),
      ),
    }),
    status,
  }),
  [kindKey(RESOURCES.peerAuthentications)]: object({
    spec: object({
      selector: istioSelector,
      mtls: object({ mode: modes }),
      portLevelMtls: map(object({ mode: modes }), matching(/^[1-9][0-9]{0,4}$/, "a port number")),
    }),
  }),
  [kindKey(RESOURCES.gateways)]: object({
    spec: object({
      gatewayClassName: text,
      listeners: list(
        object(
          {
            name: text,
            port,
            protocol: text,
            allowedRoutes: object({
              namespaces: object({ from: text, selector: labelSelector }),
            }),
          },
          "name",
          "port",
          "protocol",
        ),
      ),
      addresses: list(object({ type: text, value: text })),
    }),
    status: object({ addresses: list(object({ type: text, value: text }, "value")), conditions }),
  }),
  [kindKey(RESOURCES.gatewayClasses)]: object({ spec: object({ controllerName: text }) }),
};

const KNOWN: ReadonlyMap<string, Resource> = new Map(
  Object.values(RESOURCES).map((r): [string, Resource] => [kindKey(r), r]),
);

const metadata = object(
  {
    name: pathSegment,
    namespace: label,
    uid: text,
    resourceVersion: text,
    generation: integer(0, Number.MAX_SAFE_INTEGER),
    generateName: text,
    creationTimestamp: text,
    deletionTimestamp: text,
    labels,
    annotations,
    ownerReferences: list(
      object(
        { apiVersion: text, kind: text, name: text, uid: text, controller: flag },
        "kind",
        "name",
      ),
    ),
  },
  "name",
);
const header = object({ apiVersion: text, kind: text, metadata }, "apiVersion", "kind", "metadata");

/** The resource an object of this kind belongs to; `null` for kinds the mesh does not use. */
export function resourceOf(object: { apiVersion: string; kind: string }): Resource | null {
  return KNOWN.get(kindKey({ group: groupOf(object.apiVersion), kind: object.kind })) ?? null;
}

/**
 * Checks and adopts a parsed document. A namespaced object without namespace is in `default`.
 * @param value taken: `null` members are removed in place
 * @throws {FieldError} naming the first field that is wrong
 */
export function parseObject(value: Json): KubeObject {
  if (!isJsonObject(value)) throw new FieldError("", "expected a mapping with apiVersion and kind");
  dropNulls(value);
  header(value, "");
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- checked by the line above
  const checked = value as unknown as KubeObject;
  const resource = resourceOf(checked);
  const meta = value.metadata;
  if (resource === null || !isJsonObject(meta)) return checked;
  if (resource.group !== RBAC_GROUP) subdomain(meta.name ?? "", "metadata.name");
  if (!resource.namespaced && meta.namespace !== undefined)
    throw new FieldError("metadata.namespace", `a ${resource.kind} is in no namespace`);
  if (resource.namespaced) meta.namespace ??= "default";
  if (resource === RESOURCES.namespaces || resource === RESOURCES.services)
    label(meta.name ?? "", "metadata.name");
  KINDS[kindKey(resource)]?.(value, "");
  return checked;
}

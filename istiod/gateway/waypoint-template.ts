// The Pods of a waypoint: our program in the place of Istio's proxy, under the names its users know.
import type { JsonObject } from "#lib/kube/json.ts";
import type { Labels } from "#lib/kube/labels.ts";
import type { Gateway } from "#lib/kube/objects.ts";
import type { Infrastructure, Names } from "./names.ts";
import { revisionName } from "./ownership.ts";
import { type GatewaySettings, istiodAddress, type ProgramImage } from "./settings.ts";

/** Readiness, as `waypoint/` serves it. */
export const STATUS_PORT = 15_021;
const METRICS_PORT = 15_020;
const PROXY_METRICS_PORT = 15_090;
/** Runs the program of the image that its argument names. */
const LAUNCHER = "/opt/ambit/bin/ambit-part";
/** Also told to the program, whose drain ends in time. */
const GRACE_SECONDS = 30;
/** User and group; nothing the program does needs more. */
const RUN_AS = 1337;
/** The kubelet renews a token when a fifth of this is left. */
const TOKEN_SECONDS = 43_200;

export interface TemplateInputs {
  readonly gateway: Gateway;
  readonly names: Names;
  readonly infrastructure: Infrastructure;
  /** Of everything made for the Gateway. */
  readonly labels: Labels;
  /** Of the Deployment: the Pods must have these. */
  readonly selector: Labels;
  readonly settings: GatewaySettings;
  readonly program: ProgramImage;
}

export function podTemplate(inputs: TemplateInputs): JsonObject {
  const { names, infrastructure, labels, selector, settings } = inputs;
  return {
    metadata: {
      labels: {
        "sidecar.istio.io/inject": "false",
        "istio.io/dataplane-mode": "none",
        "service.istio.io/canonical-name": names.base,
        "service.istio.io/canonical-revision": "latest",
        ...labels,
        ...selector,
      },
      annotations: {
        ...infrastructure.annotations,
        "istio.io/rev": revisionName(settings.revision),
        "prometheus.io/path": "/stats/prometheus",
        "prometheus.io/port": String(METRICS_PORT),
        "prometheus.io/scrape": "true",
      },
    },
    spec: {
      serviceAccountName: names.serviceAccount,
      terminationGracePeriodSeconds: GRACE_SECONDS,
      securityContext: { seccompProfile: { type: "RuntimeDefault" } },
      containers: [container(inputs)],
      volumes: volumes(settings),
    },
  };
}

function container(inputs: TemplateInputs): JsonObject {
  const { image, imagePullPolicy } = inputs.program;
  return {
    name: "istio-proxy",
    image,
    ...(imagePullPolicy === null ? {} : { imagePullPolicy }),
    command: [LAUNCHER],
    args: ["waypoint"],
    env: environment(inputs),
    ports: [
      { name: "metrics", containerPort: METRICS_PORT, protocol: "TCP" },
      { name: "status-port", containerPort: STATUS_PORT, protocol: "TCP" },
      { name: "http-envoy-prom", containerPort: PROXY_METRICS_PORT, protocol: "TCP" },
    ],
    startupProbe: {
      httpGet: { path: "/healthz/ready", port: STATUS_PORT },
      initialDelaySeconds: 1,
      periodSeconds: 1,
      timeoutSeconds: 1,
      failureThreshold: 30,
    },
    readinessProbe: {
      httpGet: { path: "/healthz/ready", port: STATUS_PORT },
      periodSeconds: 15,
      timeoutSeconds: 1,
      failureThreshold: 4,
    },
    resources: {
      requests: { cpu: "100m", memory: "128Mi" },
      limits: { cpu: "2", memory: "1Gi" },
    },
    securityContext: {
      allowPrivilegeEscalation: false,
      capabilities: { drop: ["ALL"] },
      privileged: false,
      readOnlyRootFilesystem: true,
      runAsNonRoot: true,
      runAsUser: RUN_AS,
      runAsGroup: RUN_AS,
    },
    volumeMounts: [
      { name: "istiod-ca-cert", mountPath: "/var/run/secrets/istio", readOnly: true },
      { name: "istio-token", mountPath: "/var/run/secrets/tokens", readOnly: true },
      { name: "istio-podinfo", mountPath: "/etc/istio/pod", readOnly: true },
    ],
  };
}

function environment({ gateway, names, settings }: TemplateInputs): JsonObject[] {
  const { namespace = "", name } = gateway.metadata;
  const value = (key: string, text: string): JsonObject => ({ name: key, value: text });
  const field = (key: string, path: string): JsonObject => ({
    name: key,
    valueFrom: { fieldRef: { fieldPath: path } },
  });
  const address = istiodAddress(settings);
  const owner = `kubernetes://apis/apps/v1/namespaces/${namespace}/deployments/${names.base}`;
  return [
    value("XDS_ADDRESS", address),
    value("CA_ADDRESS", address),
    field("POD_NAME", "metadata.name"),
    field("POD_NAMESPACE", "metadata.namespace"),
    field("NODE_NAME", "spec.nodeName"),
    field("INSTANCE_IP", "status.podIP"),
    field("HOST_IP", "status.hostIP"),
    field("SERVICE_ACCOUNT", "spec.serviceAccountName"),
    value("GATEWAY_NAME", name),
    value("GATEWAY_CLASS_NAME", gateway.spec?.gatewayClassName ?? ""),
    value("TERMINATION_GRACE_PERIOD_SECONDS", String(GRACE_SECONDS)),
    value("TRUST_DOMAIN", settings.trustDomain),
    value("ISTIO_META_CLUSTER_ID", settings.clusterId),
    ...(settings.network === null ? [] : [value("ISTIO_META_NETWORK", settings.network)]),
    value("ISTIO_META_WORKLOAD_NAME", names.base),
    value("ISTIO_META_OWNER", owner),
    value("ISTIO_META_MESH_ID", settings.trustDomain),
  ];
}

function volumes({ rootConfigMap }: GatewaySettings): JsonObject[] {
  const token = { audience: "istio-ca", expirationSeconds: TOKEN_SECONDS, path: "istio-token" };
  return [
    { name: "istiod-ca-cert", configMap: { name: rootConfigMap } },
    { name: "istio-token", projected: { sources: [{ serviceAccountToken: token }] } },
    {
      name: "istio-podinfo",
      downwardAPI: {
        items: [
          { path: "labels", fieldRef: { fieldPath: "metadata.labels" } },
          { path: "annotations", fieldRef: { fieldPath: "metadata.annotations" } },
        ],
      },
    },
  ];
}

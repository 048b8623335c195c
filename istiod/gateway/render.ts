// A Gateway as the objects that serve it: pure, the same from the same inputs.
// Names, labels, selectors, ports and ownership are Istio's; see waypoint-template.ts for the program.
import type { KubeObject, Resource } from "#lib/kube/cluster.ts";
import type { JsonObject } from "#lib/kube/json.ts";
import type { Labels } from "#lib/kube/labels.ts";
import { type Gateway, type GatewayListener, RESOURCES } from "#lib/kube/objects.ts";
import type { ManagedClass } from "./classes.ts";
import {
  GATEWAY_CLASS_NAME,
  GATEWAY_NAME,
  MANAGED,
  OLD_GATEWAY_NAME,
  SERVICE_TYPE,
} from "./keys.ts";
import { infrastructure, type Infrastructure, type Names, namesOf } from "./names.ts";
import { overlaid, type Overlay, type OverlayKey, ParametersError } from "./overlays.ts";
import type { GatewaySettings, ProgramImage } from "./settings.ts";
import { podTemplate, STATUS_PORT } from "./waypoint-template.ts";

export interface RenderInputs {
  readonly managedClass: ManagedClass;
  readonly settings: GatewaySettings;
  readonly program: ProgramImage;
  readonly overlays: readonly Overlay[];
  /** `spec.selector.matchLabels` of the Deployment there is. */
  readonly deployedSelector: Labels | null;
}

export interface RenderedObject {
  readonly resource: Resource;
  readonly object: KubeObject;
}

export type Rendering =
  | { readonly kind: "objects"; readonly objects: readonly RenderedObject[] }
  /** Nothing is to be made; the message is for the Gateway's status. */
  | { readonly kind: "invalid"; readonly message: string };

const SERVICE_TYPES = ["ClusterIP", "NodePort", "LoadBalancer"];
const MAX_PORT_NAME = 63;

/** Everything one Gateway needs while its objects are made. */
interface Plan extends RenderInputs {
  readonly gateway: Gateway;
  readonly names: Names;
  readonly infrastructure: Infrastructure;
  /** Of everything made. */
  readonly labels: Labels;
}

export function render(gateway: Gateway, inputs: RenderInputs): Rendering {
  try {
    const names = namesOf(gateway);
    const described = infrastructure(gateway, inputs.settings);
    const labels = {
      ...described.labels,
      [GATEWAY_NAME]: gateway.metadata.name,
      [GATEWAY_CLASS_NAME]: gateway.spec?.gatewayClassName ?? "",
      [MANAGED]: inputs.managedClass.managedBy,
    };
    const plan: Plan = { ...inputs, gateway, names, infrastructure: described, labels };
    return { kind: "objects", objects: objectsOf(plan) };
  } catch (error) {
    if (error instanceof ParametersError) return { kind: "invalid", message: error.message };
    throw error;
  }
}

function objectsOf(plan: Plan): RenderedObject[] {
  const { overlays } = plan;
  const objects: RenderedObject[] = [];
  const add = (resource: Resource, key: OverlayKey, object: JsonObject): void => {
    // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- apiVersion, kind and metadata are set above, and protected from overlays
    const made = overlaid(object, key, overlays) as unknown as KubeObject;
    objects.push({ resource, object: made });
  };
  add(RESOURCES.serviceAccounts, "serviceAccount", serviceAccount(plan));
  add(RESOURCES.deployments, "deployment", deployment(plan));
  add(RESOURCES.services, "service", service(plan));
  if (overlays.some((o) => o.patches.has("horizontalPodAutoscaler")))
    add(RESOURCES.horizontalPodAutoscalers, "horizontalPodAutoscaler", autoscaler(plan));
  if (overlays.some((o) => o.patches.has("podDisruptionBudget")))
    add(RESOURCES.podDisruptionBudgets, "podDisruptionBudget", disruptionBudget(plan));
  return objects;
}

function metadata(plan: Plan, name: string, annotations: Labels): JsonObject {
  const { gateway, labels } = plan;
  return {
    name,
    namespace: gateway.metadata.namespace ?? "",
    labels: { ...labels },
    annotations: { ...annotations },
    ownerReferences: [
      {
        apiVersion: gateway.apiVersion,
        kind: gateway.kind,
        name: gateway.metadata.name,
        uid: gateway.metadata.uid ?? "",
      },
    ],
  };
}

function serviceAccount(plan: Plan): JsonObject {
  const { names, infrastructure: described } = plan;
  return {
    apiVersion: "v1",
    kind: "ServiceAccount",
    metadata: metadata(plan, names.serviceAccount, described.annotations),
  };
}

/** No `replicas`: they belong to whoever scales it. */
function deployment(plan: Plan): JsonObject {
  const { names, infrastructure: described, deployedSelector, gateway } = plan;
  const selected: Labels = { [GATEWAY_NAME]: gateway.metadata.name };
  const isOld = deployedSelector !== null && Object.hasOwn(deployedSelector, OLD_GATEWAY_NAME);
  const selector = isOld ? deployedSelector : selected;
  return {
    apiVersion: "apps/v1",
    kind: "Deployment",
    metadata: metadata(plan, names.base, described.annotations),
    spec: {
      selector: { matchLabels: { ...selector } },
      template: podTemplate({ ...plan, selector }),
    },
  };
}

function service(plan: Plan): JsonObject {
  const { names, infrastructure: described, managedClass, gateway } = plan;
  const type = gateway.metadata.annotations?.[SERVICE_TYPE] ?? managedClass.defaultServiceType;
  if (!SERVICE_TYPES.includes(type))
    throw new ParametersError(
      `The annotation ${SERVICE_TYPE} is ${JSON.stringify(type)}, expected ${SERVICE_TYPES.join(", ")}`,
    );
  const [address] = gateway.spec?.addresses ?? [];
  const wanted = type === "LoadBalancer" ? (address?.value ?? "") : "";
  const annotations = {
    "networking.istio.io/traffic-distribution": "PreferClose",
    ...described.annotations,
  };
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: metadata(plan, names.base, annotations),
    spec: {
      type,
      ...(wanted === "" ? {} : { loadBalancerIP: wanted }),
      ipFamilyPolicy: "PreferDualStack",
      selector: { [GATEWAY_NAME]: gateway.metadata.name },
      ports: servicePorts(gateway.spec?.listeners ?? []),
    },
  };
}

/** One for each listener port, under the name of its first listener. */
function servicePorts(listeners: readonly GatewayListener[]): JsonObject[] {
  const ports: JsonObject[] = [
    { name: "status-port", port: STATUS_PORT, protocol: "TCP", appProtocol: "tcp" },
  ];
  const taken = new Set(["status-port"]);
  const seen = new Set([STATUS_PORT]);
  for (const { name, port, protocol } of listeners) {
    if (seen.has(port)) continue;
    seen.add(port);
    const wanted = portName(name, "");
    const free = taken.has(wanted) ? portName(name, `-${port}`) : wanted;
    taken.add(free);
    ports.push({ name: free, port, protocol: "TCP", appProtocol: protocol.toLowerCase() });
  }
  return ports;
}

/** A listener's name may have dots and 253 characters, a port's neither. */
function portName(listener: string, suffix: string): string {
  const name = listener.replaceAll(".", "-").slice(0, MAX_PORT_NAME - suffix.length);
  return `${name.replace(/-+$/, "")}${suffix}`;
}

function autoscaler(plan: Plan): JsonObject {
  const { names, infrastructure: described } = plan;
  return {
    apiVersion: "autoscaling/v2",
    kind: "HorizontalPodAutoscaler",
    metadata: metadata(plan, names.base, described.annotations),
    spec: {
      scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name: names.base },
      maxReplicas: 1,
    },
  };
}

function disruptionBudget(plan: Plan): JsonObject {
  const { names, infrastructure: described, gateway } = plan;
  return {
    apiVersion: "policy/v1",
    kind: "PodDisruptionBudget",
    metadata: metadata(plan, names.base, described.annotations),
    spec: { selector: { matchLabels: { [GATEWAY_NAME]: gateway.metadata.name } } },
  };
}

// The Kubernetes objects the mesh works with: only the fields it reads or writes, as the API names them.
// One file, since a reader looks a kind up here and the list of kinds (RESOURCES) ends it; kinds that are only installed
// are in installed-objects.ts. Absent means what it means to the API server; defaults are the reader's business.
import type { KubeObject, Resource } from "./cluster.ts";
import type {
  CustomResourceDefinition,
  KubeEvent,
  HorizontalPodAutoscaler,
  Lease,
  NetworkPolicy,
  PodDisruptionBudget,
  Role,
  RoleBinding,
  Route,
  Secret,
  WebhookConfiguration,
} from "./installed-objects.ts";

export type * from "./installed-objects.ts";

type Labels = Readonly<Record<string, string>>;

/** `metav1.LabelSelector`: an empty one matches everything. */
export interface LabelSelector {
  readonly matchLabels?: Labels;
  readonly matchExpressions?: readonly {
    readonly key: string;
    readonly operator: "In" | "NotIn" | "Exists" | "DoesNotExist";
    readonly values?: readonly string[];
  }[];
}

export interface Condition {
  readonly type: string;
  readonly status: "True" | "False" | "Unknown";
  readonly reason?: string;
  readonly message?: string;
  readonly observedGeneration?: number;
  readonly lastTransitionTime?: string;
}

export interface Namespace extends KubeObject {
  readonly status?: { readonly phase?: string };
}

export interface Node extends KubeObject {
  readonly spec?: {
    readonly podCIDR?: string;
    readonly podCIDRs?: readonly string[];
    readonly taints?: readonly {
      readonly key: string;
      readonly value?: string;
      readonly effect: string;
    }[];
  };
  readonly status?: {
    readonly addresses?: readonly { readonly type: string; readonly address: string }[];
    readonly conditions?: readonly Condition[];
  };
}

export interface ContainerPort {
  readonly name?: string;
  readonly containerPort: number;
  readonly protocol?: string;
}

export interface Container {
  readonly name: string;
  readonly image?: string;
  readonly imagePullPolicy?: string;
  readonly command?: readonly string[];
  readonly args?: readonly string[];
  readonly env?: readonly { readonly name: string; readonly value?: string }[];
  readonly ports?: readonly ContainerPort[];
  readonly restartPolicy?: string;
}

/** All of its requirements have to be met; one without any is never. */
export interface NodeSelectorTerm {
  readonly matchExpressions?: readonly NodeRequirement[];
  readonly matchFields?: readonly NodeRequirement[];
}

export interface NodeRequirement {
  readonly key: string;
  /** In, NotIn, Exists, DoesNotExist, Gt, Lt. */
  readonly operator: string;
  readonly values?: readonly string[];
}

export interface PodSpec {
  readonly serviceAccountName?: string;
  readonly nodeName?: string;
  readonly hostNetwork?: boolean;
  readonly hostname?: string;
  readonly subdomain?: string;
  readonly nodeSelector?: Labels;
  readonly affinity?: {
    readonly nodeAffinity?: {
      readonly requiredDuringSchedulingIgnoredDuringExecution?: {
        readonly nodeSelectorTerms?: readonly NodeSelectorTerm[];
      };
    };
  };
  readonly restartPolicy?: string;
  readonly containers?: readonly Container[];
  readonly initContainers?: readonly Container[];
}

export interface Pod extends KubeObject {
  readonly spec?: PodSpec;
  readonly status?: {
    readonly phase?: string;
    readonly podIP?: string;
    readonly podIPs?: readonly { readonly ip: string }[];
    readonly hostIP?: string;
    readonly startTime?: string;
    readonly message?: string;
    readonly reason?: string;
    readonly conditions?: readonly Condition[];
  };
}

export interface ServicePort {
  readonly name?: string;
  readonly port: number;
  readonly protocol?: string;
  readonly targetPort?: number | string;
  readonly appProtocol?: string;
  readonly nodePort?: number;
}

export interface Service extends KubeObject {
  readonly spec?: {
    readonly type?: string;
    readonly clusterIP?: string;
    readonly clusterIPs?: readonly string[];
    readonly externalName?: string;
    readonly selector?: Labels;
    readonly ports?: readonly ServicePort[];
    readonly ipFamilies?: readonly string[];
    readonly ipFamilyPolicy?: string;
    readonly internalTrafficPolicy?: string;
    readonly trafficDistribution?: string;
    readonly publishNotReadyAddresses?: boolean;
  };
  readonly status?: {
    readonly conditions?: readonly Condition[];
    readonly loadBalancer?: {
      readonly ingress?: readonly { readonly ip?: string; readonly hostname?: string }[];
    };
  };
}

export interface EndpointSlice extends KubeObject {
  readonly addressType: string;
  readonly ports?: readonly {
    readonly name?: string;
    readonly port?: number;
    readonly protocol?: string;
    readonly appProtocol?: string;
  }[];
  readonly endpoints?: readonly {
    readonly addresses: readonly string[];
    readonly hostname?: string;
    readonly nodeName?: string;
    readonly zone?: string;
    readonly conditions?: {
      readonly ready?: boolean;
      readonly serving?: boolean;
      readonly terminating?: boolean;
    };
    readonly targetRef?: {
      readonly kind?: string;
      readonly namespace?: string;
      readonly name?: string;
      readonly uid?: string;
    };
  }[];
}

export interface ConfigMap extends KubeObject {
  readonly data?: Readonly<Record<string, string>>;
}

export interface ServiceAccount extends KubeObject {}

/** Deployments, DaemonSets and StatefulSets: a template and the Pods it selects. */
export interface PodController extends KubeObject {
  readonly spec?: {
    readonly replicas?: number;
    readonly serviceName?: string;
    readonly selector?: LabelSelector;
    readonly template?: {
      readonly metadata?: { readonly labels?: Labels; readonly annotations?: Labels };
      readonly spec?: PodSpec;
    };
  };
  readonly status?: {
    readonly replicas?: number;
    readonly readyReplicas?: number;
    readonly numberReady?: number;
    readonly desiredNumberScheduled?: number;
    readonly observedGeneration?: number;
    readonly conditions?: readonly Condition[];
  };
}

/** `networking.istio.io` WorkloadEntry spec, and one inline endpoint of a ServiceEntry. */
export interface WorkloadEntrySpec {
  readonly address?: string;
  readonly ports?: Readonly<Record<string, number>>;
  readonly labels?: Labels;
  readonly network?: string;
  readonly locality?: string;
  readonly weight?: number;
  readonly serviceAccount?: string;
}

export interface WorkloadEntry extends KubeObject {
  readonly spec?: WorkloadEntrySpec;
  readonly status?: { readonly conditions?: readonly Condition[] };
}

export interface ServiceEntry extends KubeObject {
  readonly spec?: {
    readonly hosts?: readonly string[];
    readonly addresses?: readonly string[];
    readonly ports?: readonly {
      readonly number: number;
      readonly name?: string;
      readonly protocol?: string;
      readonly targetPort?: number;
    }[];
    readonly location?: string;
    readonly resolution?: string;
    readonly endpoints?: readonly WorkloadEntrySpec[];
    readonly workloadSelector?: { readonly labels?: Labels };
    readonly exportTo?: readonly string[];
    readonly subjectAltNames?: readonly string[];
  };
  readonly status?: {
    readonly addresses?: readonly { readonly value: string; readonly host?: string }[];
    readonly conditions?: readonly Condition[];
  };
}

/** `istio.type.v1beta1.WorkloadSelector`. */
export interface IstioSelector {
  readonly matchLabels?: Labels;
}

export interface TargetRef {
  readonly group?: string;
  readonly kind: string;
  readonly name: string;
  readonly namespace?: string;
}

export interface AuthorizationSource {
  readonly principals?: readonly string[];
  readonly notPrincipals?: readonly string[];
  readonly requestPrincipals?: readonly string[];
  readonly notRequestPrincipals?: readonly string[];
  readonly namespaces?: readonly string[];
  readonly notNamespaces?: readonly string[];
  readonly serviceAccounts?: readonly string[];
  readonly notServiceAccounts?: readonly string[];
  readonly ipBlocks?: readonly string[];
  readonly notIpBlocks?: readonly string[];
  readonly remoteIpBlocks?: readonly string[];
  readonly notRemoteIpBlocks?: readonly string[];
  readonly trustDomains?: readonly string[];
  readonly notTrustDomains?: readonly string[];
}

export interface AuthorizationOperation {
  readonly hosts?: readonly string[];
  readonly notHosts?: readonly string[];
  readonly ports?: readonly string[];
  readonly notPorts?: readonly string[];
  readonly methods?: readonly string[];
  readonly notMethods?: readonly string[];
  readonly paths?: readonly string[];
  readonly notPaths?: readonly string[];
}

export interface AuthorizationCondition {
  readonly key: string;
  readonly values?: readonly string[];
  readonly notValues?: readonly string[];
}

export interface AuthorizationRule {
  readonly from?: readonly { readonly source?: AuthorizationSource }[];
  readonly to?: readonly { readonly operation?: AuthorizationOperation }[];
  readonly when?: readonly AuthorizationCondition[];
}

export interface AuthorizationPolicy extends KubeObject {
  readonly spec?: {
    readonly selector?: IstioSelector;
    readonly targetRef?: TargetRef;
    readonly targetRefs?: readonly TargetRef[];
    readonly action?: string;
    readonly rules?: readonly AuthorizationRule[];
  };
  readonly status?: { readonly conditions?: readonly Condition[] };
}

export type MutualTlsMode = "UNSET" | "DISABLE" | "PERMISSIVE" | "STRICT";

export interface PeerAuthentication extends KubeObject {
  readonly spec?: {
    readonly selector?: IstioSelector;
    readonly mtls?: { readonly mode?: MutualTlsMode };
    /** Port number as text → mode. */
    readonly portLevelMtls?: Readonly<Record<string, { readonly mode?: MutualTlsMode }>>;
  };
}

export interface GatewayListener {
  readonly name: string;
  readonly port: number;
  readonly protocol: string;
  readonly hostname?: string;
  readonly allowedRoutes?: {
    readonly namespaces?: { readonly from?: string; readonly selector?: LabelSelector };
    readonly kinds?: readonly RouteGroupKind[];
  };
}

export interface RouteGroupKind {
  readonly group?: string;
  readonly kind: string;
}

export interface ListenerStatus {
  readonly name: string;
  readonly supportedKinds?: readonly RouteGroupKind[];
  readonly attachedRoutes: number;
  readonly conditions: readonly Condition[];
}

export interface Gateway extends KubeObject {
  readonly spec?: {
    readonly gatewayClassName?: string;
    readonly listeners?: readonly GatewayListener[];
    readonly addresses?: readonly { readonly type?: string; readonly value?: string }[];
    readonly infrastructure?: {
      readonly labels?: Labels;
      readonly annotations?: Labels;
      readonly parametersRef?: {
        readonly group: string;
        readonly kind: string;
        readonly name: string;
      };
    };
  };
  readonly status?: {
    readonly addresses?: readonly { readonly type?: string; readonly value: string }[];
    readonly conditions?: readonly Condition[];
    readonly listeners?: readonly ListenerStatus[];
  };
}

export interface GatewayClass extends KubeObject {
  readonly spec?: { readonly controllerName?: string };
  readonly status?: { readonly conditions?: readonly Condition[] };
}

function resource<T extends KubeObject>(
  apiVersion: string,
  kind: string,
  plural: string,
  scope: "namespaced" | "cluster" = "namespaced",
): Resource<T> {
  const [group, version] = apiVersion.includes("/")
    ? (apiVersion.split("/", 2) as [string, string])
    : (["", apiVersion] as const);
  return { group, version, kind, plural, namespaced: scope === "namespaced" };
}

/** Every kind the mesh uses, by its plural in camel case. */
export const RESOURCES = {
  namespaces: resource<Namespace>("v1", "Namespace", "namespaces", "cluster"),
  nodes: resource<Node>("v1", "Node", "nodes", "cluster"),
  pods: resource<Pod>("v1", "Pod", "pods"),
  services: resource<Service>("v1", "Service", "services"),
  serviceAccounts: resource<ServiceAccount>("v1", "ServiceAccount", "serviceaccounts"),
  configMaps: resource<ConfigMap>("v1", "ConfigMap", "configmaps"),
  endpointSlices: resource<EndpointSlice>("discovery.k8s.io/v1", "EndpointSlice", "endpointslices"),
  deployments: resource<PodController>("apps/v1", "Deployment", "deployments"),
  daemonSets: resource<PodController>("apps/v1", "DaemonSet", "daemonsets"),
  statefulSets: resource<PodController>("apps/v1", "StatefulSet", "statefulsets"),
  replicaSets: resource<PodController>("apps/v1", "ReplicaSet", "replicasets"),
  horizontalPodAutoscalers: resource<HorizontalPodAutoscaler>(
    "autoscaling/v2",
    "HorizontalPodAutoscaler",
    "horizontalpodautoscalers",
  ),
  podDisruptionBudgets: resource<PodDisruptionBudget>(
    "policy/v1",
    "PodDisruptionBudget",
    "poddisruptionbudgets",
  ),
  secrets: resource<Secret>("v1", "Secret", "secrets"),
  events: resource<KubeEvent>("v1", "Event", "events"),
  leases: resource<Lease>("coordination.k8s.io/v1", "Lease", "leases"),
  networkPolicies: resource<NetworkPolicy>(
    "networking.k8s.io/v1",
    "NetworkPolicy",
    "networkpolicies",
  ),
  customResourceDefinitions: {
    ...resource<CustomResourceDefinition>(
      "apiextensions.k8s.io/v1",
      "CustomResourceDefinition",
      "customresourcedefinitions",
      "cluster",
    ),
    metadataOnly: true,
  },
  roles: resource<Role>("rbac.authorization.k8s.io/v1", "Role", "roles"),
  roleBindings: resource<RoleBinding>(
    "rbac.authorization.k8s.io/v1",
    "RoleBinding",
    "rolebindings",
  ),
  clusterRoles: resource<Role>(
    "rbac.authorization.k8s.io/v1",
    "ClusterRole",
    "clusterroles",
    "cluster",
  ),
  clusterRoleBindings: resource<RoleBinding>(
    "rbac.authorization.k8s.io/v1",
    "ClusterRoleBinding",
    "clusterrolebindings",
    "cluster",
  ),
  mutatingWebhookConfigurations: resource<WebhookConfiguration>(
    "admissionregistration.k8s.io/v1",
    "MutatingWebhookConfiguration",
    "mutatingwebhookconfigurations",
    "cluster",
  ),
  validatingWebhookConfigurations: resource<WebhookConfiguration>(
    "admissionregistration.k8s.io/v1",
    "ValidatingWebhookConfiguration",
    "validatingwebhookconfigurations",
    "cluster",
  ),
  httpRoutes: resource<Route>("gateway.networking.k8s.io/v1", "HTTPRoute", "httproutes"),
  grpcRoutes: resource<Route>("gateway.networking.k8s.io/v1", "GRPCRoute", "grpcroutes"),
  tcpRoutes: resource<Route>("gateway.networking.k8s.io/v1", "TCPRoute", "tcproutes"),
  tlsRoutes: resource<Route>("gateway.networking.k8s.io/v1", "TLSRoute", "tlsroutes"),
  serviceEntries: resource<ServiceEntry>(
    "networking.istio.io/v1",
    "ServiceEntry",
    "serviceentries",
  ),
  workloadEntries: resource<WorkloadEntry>(
    "networking.istio.io/v1",
    "WorkloadEntry",
    "workloadentries",
  ),
  authorizationPolicies: resource<AuthorizationPolicy>(
    "security.istio.io/v1",
    "AuthorizationPolicy",
    "authorizationpolicies",
  ),
  peerAuthentications: resource<PeerAuthentication>(
    "security.istio.io/v1",
    "PeerAuthentication",
    "peerauthentications",
  ),
  gateways: resource<Gateway>("gateway.networking.k8s.io/v1", "Gateway", "gateways"),
  gatewayClasses: resource<GatewayClass>(
    "gateway.networking.k8s.io/v1",
    "GatewayClass",
    "gatewayclasses",
    "cluster",
  ),
} as const;

/** Identifies a kind whatever its version: `group/Kind`, `/Pod` for the core group. */
export function kindKey(of: { readonly group: string; readonly kind: string }): string {
  return `${of.group}/${of.kind}`;
}

/** `apps/v1` → `apps`; `v1` → the core group, "". */
export function groupOf(apiVersion: string): string {
  const slash = apiVersion.indexOf("/");
  return slash < 0 ? "" : apiVersion.slice(0, slash);
}

/** `namespace/name`, or just the name of a cluster-scoped object. */
export function objectName(object: KubeObject): string {
  const { namespace, name } = object.metadata;
  return namespace === undefined ? name : `${namespace}/${name}`;
}

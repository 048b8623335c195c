// Kinds that controllers and installations write: what protects, scales, permits and remembers.
// As in `objects.ts`, only the fields someone here reads; everything else passes through unnamed.
import type { KubeObject } from "./cluster.ts";

export interface Secret extends KubeObject {
  readonly type?: string;
  readonly immutable?: boolean;
  /** Values in base64. */
  readonly data?: Readonly<Record<string, string>>;
  /** Written as it is; the API server moves it to `data`. */
  readonly stringData?: Readonly<Record<string, string>>;
}

/** coordination.k8s.io: who leads, for how long. Times are RFC 3339 with microseconds. */
export interface Lease extends KubeObject {
  readonly spec?: {
    readonly holderIdentity?: string;
    readonly leaseDurationSeconds?: number;
    readonly acquireTime?: string;
    readonly renewTime?: string;
    readonly leaseTransitions?: number;
  };
}

export interface HorizontalPodAutoscaler extends KubeObject {
  readonly spec?: {
    readonly scaleTargetRef?: {
      readonly apiVersion?: string;
      readonly kind: string;
      readonly name: string;
    };
    readonly minReplicas?: number;
    readonly maxReplicas?: number;
  };
  readonly status?: { readonly currentReplicas?: number; readonly desiredReplicas?: number };
}

export interface PodDisruptionBudget extends KubeObject {
  readonly spec?: Readonly<Record<string, unknown>>;
  readonly status?: { readonly disruptionsAllowed?: number; readonly currentHealthy?: number };
}

/** Watched as metadata alone: names and annotations are what the mesh wants of it. */
export interface CustomResourceDefinition extends KubeObject {
  readonly spec?: Readonly<Record<string, unknown>>;
}

export interface NetworkPolicyPort {
  readonly protocol?: string;
  readonly port?: number | string;
  readonly endPort?: number;
}

export interface NetworkPolicyRule {
  readonly ports?: readonly NetworkPolicyPort[];
  readonly from?: readonly unknown[];
  readonly to?: readonly unknown[];
}

export interface NetworkPolicy extends KubeObject {
  readonly spec?: {
    readonly podSelector?: {
      readonly matchLabels?: Readonly<Record<string, string>>;
      readonly matchExpressions?: readonly {
        readonly key: string;
        readonly operator: "In" | "NotIn" | "Exists" | "DoesNotExist";
        readonly values?: readonly string[];
      }[];
    };
    readonly policyTypes?: readonly string[];
    readonly ingress?: readonly NetworkPolicyRule[];
    readonly egress?: readonly NetworkPolicyRule[];
  };
}

/** Gateway API routes; their rules are read where they are translated. */
export interface Route extends KubeObject {
  readonly spec?: {
    readonly parentRefs?: readonly RouteParentRef[];
    readonly hostnames?: readonly string[];
    readonly rules?: readonly Readonly<Record<string, unknown>>[];
  };
  readonly status?: { readonly parents?: readonly Readonly<Record<string, unknown>>[] };
}

export interface RouteParentRef {
  readonly group?: string;
  readonly kind?: string;
  readonly namespace?: string;
  readonly name: string;
  readonly sectionName?: string;
  readonly port?: number;
}

export interface PolicyRule {
  readonly apiGroups?: readonly string[];
  readonly resources?: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly nonResourceURLs?: readonly string[];
  readonly verbs: readonly string[];
}

/** Role and ClusterRole. */
export interface Role extends KubeObject {
  readonly rules?: readonly PolicyRule[];
}

/** RoleBinding and ClusterRoleBinding. */
export interface RoleBinding extends KubeObject {
  readonly roleRef?: { readonly apiGroup: string; readonly kind: string; readonly name: string };
  readonly subjects?: readonly {
    readonly apiGroup?: string;
    readonly kind: string;
    readonly namespace?: string;
    readonly name: string;
  }[];
}

export interface KubeEvent extends KubeObject {
  readonly type?: string;
  readonly reason?: string;
  readonly message?: string;
  readonly count?: number;
  readonly firstTimestamp?: string;
  readonly lastTimestamp?: string;
  readonly involvedObject?: {
    readonly apiVersion?: string;
    readonly kind?: string;
    readonly namespace?: string;
    readonly name?: string;
    readonly uid?: string;
  };
  readonly source?: { readonly component?: string; readonly host?: string };
}

/** Mutating and validating: named webhooks and the CA the API server checks them with. */
export interface WebhookConfiguration extends KubeObject {
  readonly webhooks?: readonly {
    readonly name: string;
    readonly clientConfig?: { readonly caBundle?: string; readonly url?: string };
  }[];
}

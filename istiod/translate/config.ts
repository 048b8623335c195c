// The mesh settings that shape the tables: a frozen value, replaced whole when it changes.
import type { LabelSelector } from "#lib/kube/objects.ts";

export type VisibilityName = "PUBLIC" | "NAMESPACE" | "NONE";

/** `MeshConfig.serviceEntryVisibility`: the first policy whose rules all match the namespace wins. */
export interface ServiceEntryVisibility {
  readonly defaultVisibility: VisibilityName;
  readonly policies: readonly {
    readonly visibility: VisibilityName;
    /** A rule without a matcher this version knows never matches. */
    readonly matchingRules: readonly { readonly namespaceSelector?: LabelSelector }[];
  }[];
}

export interface TranslateConfig {
  readonly clusterId: string;
  readonly trustDomain: string;
  /** Where mesh-wide policies live. */
  readonly rootNamespace: string;
  /** Where istiod runs; its label `topology.istio.io/network` names the network. */
  readonly systemNamespace: string;
  /** DNS suffix of Kubernetes Services. */
  readonly domain: string;
  /** Istio resources labelled `istio.io/rev` for another revision are not seen; "" sees all. */
  readonly revision: string;
  /** Namespaces whose objects are seen, OR-ed; empty sees all. */
  readonly discoverySelectors: readonly LabelSelector[];
  readonly serviceEntryVisibility: ServiceEntryVisibility | null;
  /** `PILOT_AUTO_ALLOW_WAYPOINT_POLICY` */
  readonly autoAllowWaypointPolicy: boolean;
  /** `AMBIENT_ENABLE_DRY_RUN_AUTHORIZATION_POLICY` */
  readonly dryRunPolicies: boolean;
  /** `PILOT_ENABLE_SERVICEENTRY_SELECT_PODS` */
  readonly serviceEntriesSelectPods: boolean;
  /** `PILOT_ENABLE_K8S_SELECT_WORKLOAD_ENTRIES` */
  readonly servicesSelectWorkloadEntries: boolean;
  /**
   * What a DENY rule becomes when ztunnel cannot see its HTTP attributes. `ignored` is Istio's
   * behaviour: an item of only such attributes never matches. `denied` takes them as matching, so
   * that the rest of the rule is enforced more broadly instead of not at all.
   */
  readonly l7DenyAtL4: "ignored" | "denied";
}

export const DEFAULT_CONFIG: TranslateConfig = Object.freeze({
  clusterId: "Kubernetes",
  trustDomain: "cluster.local",
  rootNamespace: "istio-system",
  systemNamespace: "istio-system",
  domain: "cluster.local",
  revision: "",
  discoverySelectors: [],
  serviceEntryVisibility: null,
  autoAllowWaypointPolicy: false,
  dryRunPolicies: false,
  serviceEntriesSelectPods: true,
  servicesSelectWorkloadEntries: true,
  l7DenyAtL4: "ignored",
} satisfies TranslateConfig);

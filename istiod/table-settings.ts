// What of istiod's settings and the mesh configuration shapes the tables.
import { isDeepStrictEqual } from "node:util";
import type { Config } from "./config.ts";
import type { MeshConfig } from "./mesh-config.ts";
import type { TranslateConfig } from "./translate/config.ts";

export function tableSettings(config: Config, mesh: MeshConfig): TranslateConfig {
  return {
    clusterId: config.clusterId,
    trustDomain: mesh.trustDomain,
    rootNamespace: mesh.rootNamespace ?? config.namespace,
    systemNamespace: config.namespace,
    domain: config.domain,
    revision: config.revision,
    discoverySelectors: mesh.discoverySelectors,
    serviceEntryVisibility: mesh.serviceEntryVisibility,
    autoAllowWaypointPolicy: config.autoAllowWaypointPolicy,
    dryRunPolicies: config.dryRunPolicies,
    serviceEntriesSelectPods: config.serviceEntriesSelectPods,
    servicesSelectWorkloadEntries: config.servicesSelectWorkloadEntries,
    l7DenyAtL4: config.l7DenyAtL4,
  };
}

/** Do the tables come out alike under both? Then nothing need be derived again. */
export function sameTables(a: TranslateConfig, b: TranslateConfig): boolean {
  return isDeepStrictEqual(a, b);
}

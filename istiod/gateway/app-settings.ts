// The settings of this room out of istiod's own and the mesh configuration.
import type { Config } from "../config.ts";
import type { MeshConfig } from "../mesh-config.ts";
import type { GatewayTasksOptions } from "./gateway-tasks.ts";
import type { GatewaySettings } from "./settings.ts";

/**
 * @param image `AMBIT_IMAGE`; `null`: waypoints run from what istiod's own pod runs from
 * @param mesh  the one in force
 */
export function gatewayOptions(
  config: Config,
  image: string | null,
  mesh: () => MeshConfig,
): Pick<GatewayTasksOptions, "settings" | "program" | "pod"> {
  return {
    settings: () => gatewaySettings(config, mesh()),
    program: image === null ? null : { image, imagePullPolicy: null },
    pod: { namespace: config.namespace, name: config.podName },
  };
}

function gatewaySettings(config: Config, mesh: MeshConfig): GatewaySettings {
  return {
    systemNamespace: config.namespace,
    revision: config.revision,
    domain: config.domain,
    trustDomain: mesh.trustDomain,
    clusterId: config.clusterId,
    network: null, // one network is all there is
    istiodAddress: mesh.discoveryAddress,
    rootConfigMap: config.rootConfigMap,
    copiesMetadata: true,
  };
}

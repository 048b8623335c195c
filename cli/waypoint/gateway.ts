// The Gateway that makes a waypoint, as istioctl writes it, and its flags.
import * as Flags from "@oclif/core/flags";
import type { Gateway } from "#lib/kube/objects.ts";
import { PORT } from "#lib/net/ports.ts";
import { CliError } from "../errors.ts";
import {
  FOR_SERVICE_ACCOUNT,
  TRAFFIC_TYPES,
  WAYPOINT_CLASS,
  WAYPOINT_FOR,
} from "../kube/waypoints.ts";

export const DEFAULT_NAME = "waypoint";

export const gatewayFlags = {
  name: Flags.string({
    summary: `Name of the waypoint; ${DEFAULT_NAME} by default, <account>-waypoint with --service-account.`,
    helpValue: "<name>",
  }),
  for: Flags.string({
    summary: "Traffic it takes: that to services, to workloads, all or none.",
    options: TRAFFIC_TYPES,
  }),
  "service-account": Flags.string({
    summary: "For the pods of this service account and the services in front of them.",
    helpValue: "<account>",
  }),
  revision: Flags.string({ char: "r", summary: "Revision of istiod that makes it." }),
} as const;

export interface GatewayFlags {
  readonly name?: string | undefined;
  readonly for?: string | undefined;
  readonly "service-account"?: string | undefined;
  readonly revision?: string | undefined;
}

/** @throws {CliError} USAGE for the name `none`, which means no waypoint in labels */
export function waypointName({ name, "service-account": account }: GatewayFlags): string {
  const chosen = name ?? (account === undefined ? DEFAULT_NAME : `${account}-waypoint`);
  if (chosen === "none")
    throw new CliError(
      "USAGE",
      "A waypoint cannot be called none: as a label that means no waypoint",
      ["choose another --name"],
    );
  return chosen;
}

/** @param namespace  absent: wherever it is applied */
export function waypointGateway(flags: GatewayFlags, namespace?: string): Gateway {
  const { for: traffic, "service-account": account, revision } = flags;
  const type = traffic ?? (account === undefined ? undefined : "all");
  const labels = {
    ...(type === undefined ? {} : { [WAYPOINT_FOR]: type }),
    ...(revision === undefined ? {} : { "istio.io/rev": revision }),
  };
  return {
    apiVersion: "gateway.networking.k8s.io/v1",
    kind: "Gateway",
    metadata: {
      name: waypointName(flags),
      ...(namespace === undefined ? {} : { namespace }),
      ...(Object.keys(labels).length === 0 ? {} : { labels }),
      ...(account === undefined ? {} : { annotations: { [FOR_SERVICE_ACCOUNT]: account } }),
    },
    spec: {
      gatewayClassName: WAYPOINT_CLASS,
      listeners: [{ name: "mesh", port: PORT.hbone, protocol: "HBONE" }],
    },
  };
}

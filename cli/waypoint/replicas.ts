// How many pods a waypoint has: an overlay of its Deployment in a ConfigMap that the Gateway refers to.
import type { KubeObject } from "#lib/kube/cluster.ts";
import type { Gateway } from "#lib/kube/objects.ts";
import { CliError } from "../errors.ts";

export const optionsName = (waypoint: string): string => `${waypoint}-options`;

/**
 * `wanted` as it has to be applied, given what is there: parameters that an earlier `--replicas` set stay.
 * @throws {CliError} CONFLICT when the Gateway has parameters of somebody else
 */
export function withParameters(
  wanted: Gateway,
  current: Gateway | null,
  replicas: number | undefined,
): Gateway {
  const { name } = wanted.metadata;
  const own = { group: "", kind: "ConfigMap", name: optionsName(name) };
  const there = current?.spec?.infrastructure?.parametersRef;
  const isOwn = there?.kind === own.kind && there.name === own.name;
  if (replicas === undefined && !isOwn) return wanted;
  if (there !== undefined && !isOwn)
    throw new CliError(
      "CONFLICT",
      `Gateway ${name} has parameters already: ${there.kind} ${there.name}`,
      [`set spec.replicas there, under the key deployment`],
    );
  return { ...wanted, spec: { ...wanted.spec, infrastructure: { parametersRef: own } } };
}

/** The overlay; it goes with the Gateway when that is known. */
export function replicasOverlay(
  gateway: Gateway,
  stored: Gateway | null,
  replicas: number,
): KubeObject & { readonly data: Readonly<Record<string, string>> } {
  const { name, namespace } = gateway.metadata;
  const { apiVersion, kind } = gateway;
  const uid = stored?.metadata.uid;
  return {
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: {
      name: optionsName(name),
      ...(namespace === undefined ? {} : { namespace }),
      ...(uid === undefined ? {} : { ownerReferences: [{ apiVersion, kind, name, uid }] }),
    },
    data: { deployment: `spec:\n  replicas: ${replicas}\n` },
  };
}

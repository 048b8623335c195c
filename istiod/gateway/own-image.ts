// The image we run from: it holds every program of the mesh, so waypoints run from it as well, whatever
// an installation named it.
import type { Cluster } from "#lib/kube/cluster.ts";
import { RESOURCES } from "#lib/kube/objects.ts";
import { GatewayError } from "./errors.ts";
import type { ProgramImage } from "./settings.ts";

/** Names of our container; a Pod of one container needs none of them. */
const CONTAINERS = ["discovery", "istiod"];

/** @throws {GatewayError} `NO_IMAGE` */
export async function ownImage(
  cluster: Cluster,
  pod: { readonly namespace: string; readonly name: string },
): Promise<ProgramImage> {
  const found = await cluster.get(RESOURCES.pods, pod.namespace, pod.name);
  const containers = found?.spec?.containers ?? [];
  const own = containers.find((c) => CONTAINERS.includes(c.name)) ?? containers[0];
  const isOurs = own !== undefined && (containers.length === 1 || CONTAINERS.includes(own.name));
  if (!isOurs || own.image === undefined)
    throw new GatewayError(
      "NO_IMAGE",
      `Cannot tell the image of waypoints from pod ${pod.namespace}/${pod.name}; set AMBIT_IMAGE`,
    );
  return { image: own.image, imagePullPolicy: own.imagePullPolicy ?? null };
}

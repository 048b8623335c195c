// What `waypoint apply --enroll` names: objects of the waypoint's namespace, or that namespace.
import type { Cluster, Resource } from "#lib/kube/cluster.ts";
import { RESOURCES, type Namespace } from "#lib/kube/objects.ts";
import { CliError } from "../errors.ts";
import { requireObject } from "../kube/open-cluster.ts";
import { findResource } from "../kube/resource-names.ts";
import type { Member } from "./account-users.ts";

/** Whose labels istiod reads. */
const KINDS: readonly Resource[] = [
  RESOURCES.services,
  RESOURCES.pods,
  RESOURCES.serviceEntries,
  RESOURCES.workloadEntries,
];

/**
 * @param home  the waypoint's: a Gateway admits objects of its own namespace, unless it is written otherwise
 * @throws {CliError} USAGE for another kind or namespace, NOT_FOUND
 */
export async function enrollMembers(
  cluster: Cluster,
  home: Namespace,
  words: readonly string[],
): Promise<Member[]> {
  const members: Member[] = [];
  const { name: namespace } = home.metadata;
  for (const word of new Set(words)) {
    const [kind = "", name = ""] = word.split("/", 2);
    if (name === "")
      throw new CliError("USAGE", `What is ${JSON.stringify(word)}?`, [
        `write svc/${kind}, pod/${kind} or ns/${kind}`,
      ]);
    const resource = findResource(kind);
    if (resource === RESOURCES.namespaces) {
      if (name !== namespace)
        throw new CliError("USAGE", `A waypoint in ${namespace} does not serve namespace ${name}`, [
          `make one there: ambit waypoint apply -n ${name} --enroll-namespace`,
          "or admit it in the Gateway's allowedRoutes, and label it with istio.io/use-waypoint-namespace",
        ]);
      members.push({ resource, object: home });
    } else if (KINDS.includes(resource))
      members.push({ resource, object: await requireObject(cluster, resource, namespace, name) });
    else
      throw new CliError("USAGE", `A ${resource.kind} has no waypoint: ${JSON.stringify(word)}`, [
        "write svc/…, pod/…, se/…, we/… or ns/…; --service-account takes what runs as an account",
      ]);
  }
  return members;
}

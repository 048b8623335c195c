// Which services, pods and pod templates belong to a service account: what a waypoint of its own is for.
import type { Cluster, KubeObject, Resource } from "#lib/kube/cluster.ts";
import { selects } from "#lib/kube/labels.ts";
import { RESOURCES, type Pod } from "#lib/kube/objects.ts";
import { CliError } from "../errors.ts";
import { isReady } from "../kube/pod-state.ts";
import { GATEWAY_NAME } from "../kube/waypoints.ts";
import { didYouMean } from "../suggest.ts";

export interface Member {
  readonly resource: Resource;
  readonly object: KubeObject;
}

export interface AccountUsers {
  readonly services: readonly Member[];
  readonly pods: readonly Member[];
  /** What makes the pods, and makes them again. */
  readonly owners: readonly Member[];
  /** Services in front of pods of several accounts, with the other accounts. */
  readonly mixed: readonly { readonly name: string; readonly accounts: readonly string[] }[];
}

/** @throws {CliError} NOT_FOUND when there is neither account nor pod of it */
export async function accountUsers(
  cluster: Cluster,
  namespace: string,
  account: string,
): Promise<AccountUsers> {
  const [accounts, allPods, allServices] = await Promise.all([
    cluster.list(RESOURCES.serviceAccounts, { namespace }),
    cluster.list(RESOURCES.pods, { namespace }),
    cluster.list(RESOURCES.services, { namespace }),
  ]);
  const pods = allPods.filter((p) => p.metadata.labels?.[GATEWAY_NAME] === undefined);
  const own = pods.filter((p) => accountOf(p) === account);
  if (own.length === 0 && !accounts.some((a) => a.metadata.name === account)) {
    const names = [...accounts.map((a) => a.metadata.name), ...pods.map(accountOf)];
    throw new CliError("NOT_FOUND", `No service account ${account} in namespace ${namespace}`, [
      ...didYouMean(account, names),
      `ambit get serviceaccounts -n ${namespace} lists them`,
    ]);
  }
  const services: Member[] = [];
  const mixed: { name: string; accounts: string[] }[] = [];
  for (const service of allServices) {
    const { selector = {} } = service.spec ?? {};
    if (Object.keys(selector).length === 0) continue;
    const behind = pods.filter((p) => selects(selector, p.metadata.labels) && isServing(p));
    if (!behind.some((p) => accountOf(p) === account)) continue;
    const others = [...new Set(behind.map(accountOf))].filter((a) => a !== account);
    if (others.length === 0) services.push({ resource: RESOURCES.services, object: service });
    else mixed.push({ name: service.metadata.name, accounts: others });
  }
  return {
    services,
    mixed,
    pods: own.map((object) => ({ resource: RESOURCES.pods, object })),
    owners: await ownersOf(cluster, namespace, own),
  };
}

export function accountOf(pod: Pod): string {
  return pod.spec?.serviceAccountName ?? "default";
}

function isServing(pod: Pod): boolean {
  return isReady(pod) && pod.metadata.deletionTimestamp === undefined;
}

const OWNER_KINDS: Readonly<Record<string, Resource>> = {
  Deployment: RESOURCES.deployments,
  StatefulSet: RESOURCES.statefulSets,
  DaemonSet: RESOURCES.daemonSets,
};

/** Two steps up at most: Pod, ReplicaSet, Deployment. */
async function ownersOf(
  cluster: Cluster,
  namespace: string,
  pods: readonly Pod[],
): Promise<Member[]> {
  const found = new Map<string, Member>();
  const replicaSets = new Map<string, KubeObject | null>();
  for (const pod of pods) {
    let owner = controllerOf(pod);
    if (owner?.kind === "ReplicaSet") {
      const { name } = owner;
      if (!replicaSets.has(name))
        replicaSets.set(name, await cluster.get(RESOURCES.replicaSets, namespace, name));
      owner = controllerOf(replicaSets.get(name) ?? null);
    }
    const resource = owner === null ? undefined : OWNER_KINDS[owner.kind];
    if (owner === null || resource === undefined || found.has(`${owner.kind}/${owner.name}`))
      continue;
    const object = await cluster.get(resource, namespace, owner.name);
    if (object !== null) found.set(`${owner.kind}/${owner.name}`, { resource, object });
  }
  return [...found.values()];
}

function controllerOf(
  object: KubeObject | null,
): { readonly kind: string; readonly name: string } | null {
  return object?.metadata.ownerReferences?.find((r) => r.controller === true) ?? null;
}

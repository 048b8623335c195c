// Workloads of Pods. Source: istio pilot/pkg/serviceregistry/ambient/workloads.go.
import { nonEmptySelects } from "#lib/kube/labels.ts";
import { NetworkMode, WorkloadStatus } from "#lib/wire/gen/workload.gen.ts";
import type { Reads } from "./collection.ts";
import { ipBytes } from "./encode.ts";
import { podWorkloadName } from "./names.ts";
import { type Pod, podReference } from "./objects.ts";
import type { MemberPort, Membership } from "./services.ts";
import {
  mapPorts,
  memberOfSlice,
  naming,
  numberOf,
  published,
  type PublishedWorkload,
  tunnel,
  type WorkloadTables,
} from "./workload-tables.ts";

export function* podWorkload(
  pod: Pod,
  reads: Reads,
  tables: WorkloadTables,
): Generator<[string, PublishedWorkload]> {
  if (pod.ips === null) return;
  const { config } = tables;
  const requester = { namespace: pod.namespace, labels: pod.labels };
  const members = podMemberships(pod, reads, tables);
  const workloadName = podWorkloadName(pod);
  const locality = pod.node === "" ? null : reads.key(tables.nodes, pod.node)?.locality;
  yield published(
    {
      uid: `${config.clusterId}//Pod/${pod.key}`,
      name: pod.name,
      namespace: pod.namespace,
      addresses: pod.ips.map(ipBytes),
      serviceAccount: pod.serviceAccount,
      node: pod.node,
      networkMode: pod.hostNetwork ? NetworkMode.HOST_NETWORK : NetworkMode.STANDARD,
      status: pod.isReady ? WorkloadStatus.HEALTHY : WorkloadStatus.UNHEALTHY,
      ...tunnel(pod.labels, pod.redirected),
      ...naming(pod.labels, workloadName),
      locality: locality ?? undefined,
    },
    {
      members,
      ports: (m) =>
        m.source === "Service"
          ? mapPorts(m.ports, (p) => podTarget(pod, p))
          : mapPorts(m.ports, (p) => namedPort(pod, p.name) ?? numberOf(p.target)),
      requester,
      policyLabels: pod.labels,
      addresses: pod.ips,
      network: "",
    },
    reads,
    tables,
  );
}

/** Selected by labels, or named by an EndpointSlice (Services without selector). */
function podMemberships(pod: Pod, reads: Reads, tables: WorkloadTables): Membership[] {
  const { config } = tables;
  const selected = reads.index(
    tables.membersByNamespace,
    pod.namespace,
    (m) =>
      (m.source === "Service" || config.serviceEntriesSelectPods) &&
      nonEmptySelects(m.selector ?? undefined, pod.labels),
  );
  if (pod.uid === "") return selected;
  const known = new Set(selected.map((m) => m.key));
  for (const slice of reads.index(tables.slicesByPod, podReference(pod))) {
    const member = memberOfSlice(slice, reads, tables);
    if (member !== undefined && !known.has(member.key)) {
      known.add(member.key);
      selected.push(member);
    }
  }
  return selected;
}

function podTarget(pod: Pod, port: MemberPort): number | null {
  return typeof port.target === "number" ? port.target : namedPort(pod, port.target);
}

function namedPort(pod: Pod, name: string): number | null {
  return pod.ports.find((p) => p.name === name)?.port ?? null;
}

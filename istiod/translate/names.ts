// What telemetry calls a workload. Source: istio pkg/kube/util.go, pkg/kube/labels.
import type { Labels } from "#lib/kube/labels.ts";
import type { Pod } from "./objects.ts";

const WORKLOAD_NAME = "service.istio.io/workload-name";
const CRON_JOB = /^(.+)-\d{8,10}$/;

/** The owner's name, with the hash or time a controller appended taken off. */
export function podWorkloadName(pod: Pod): string {
  const { labels, owner } = pod;
  const given = labels[WORKLOAD_NAME];
  if (given !== undefined && given !== "") return given;
  if (pod.generateName === "" || owner === null) return pod.name;
  switch (owner.kind) {
    case "ReplicaSet":
      return (
        withoutHash(owner.name, labels["pod-template-hash"]) ??
        withoutHash(owner.name, labels["rollouts-pod-template-hash"]) ??
        owner.name
      );
    case "ReplicationController":
      return labels.deploymentconfig ?? owner.name;
    case "Job":
      return CRON_JOB.exec(owner.name)?.[1] ?? owner.name;
    default:
      return owner.name;
  }
}

export function entryWorkloadName(name: string, labels: Labels, annotations: Labels): string {
  return annotations["istio.io/autoRegistrationGroup"] ?? labels[WORKLOAD_NAME] ?? name;
}

export function canonicalName(labels: Labels, workloadName: string): string {
  return (
    labels["service.istio.io/canonical-name"] ??
    labels["app.kubernetes.io/name"] ??
    labels.app ??
    workloadName
  );
}

export function canonicalRevision(labels: Labels): string {
  return (
    labels["service.istio.io/canonical-revision"] ??
    labels["app.kubernetes.io/version"] ??
    labels.version ??
    "latest"
  );
}

/** `null` when the name does not end with the hash. */
function withoutHash(name: string, hash: string | undefined): string | null {
  if (hash === undefined || !name.endsWith(hash)) return null;
  return name.endsWith(`-${hash}`) ? name.slice(0, -hash.length - 1) : name;
}

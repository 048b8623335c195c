// `describe namespace`: what holds for everything in it.
import type { Cluster } from "#lib/kube/cluster.ts";
import { RESOURCES, type Namespace } from "#lib/kube/objects.ts";
import { MODE_LABEL, tally, tallyText } from "../kube/enrollment.ts";
import type { MeshView } from "../kube/mesh-view.ts";
import { actionOf, hasTargets, mtlsOf } from "../kube/policies.ts";
import type { Description, Line } from "./sections.ts";
import { waypointAnswer } from "./waypoint-line.ts";

export async function describeNamespace(
  cluster: Cluster,
  namespace: Namespace,
  view: MeshView,
): Promise<Description> {
  const { name, labels } = namespace.metadata;
  const pods = await cluster.list(RESOURCES.pods, { namespace: name });
  const t = tally(pods, namespace);
  const mode = labels?.[MODE_LABEL];
  const waypoint = waypointAnswer(namespace, "service", view);
  const mtls = mtlsOf(
    view.peerAuthentications,
    { metadata: { name: "", namespace: name } },
    view.rootNamespace,
  );
  const policies = view.policies.filter((p) => p.metadata.namespace === name);
  const sidecars = labels?.["istio-injection"] === "enabled";
  const lines: Line[] = [
    {
      label: "Mode",
      text: mode ?? "not enrolled",
      notes: sidecars && mode === "ambient" ? ["it asks for sidecars as well (C09)"] : [],
    },
    {
      label: "Pods",
      text: `${pods.length}: ${tallyText(t)}${t.outside.length === 0 ? "" : `, ${t.outside.length} outside`}`,
    },
    { label: "Waypoint", text: waypoint.text, notes: waypoint.notes },
    {
      label: "mTLS",
      text: mtls.mode,
      notes:
        mode === "ambient" && mtls.mode !== "STRICT"
          ? ["plaintext from outside the mesh is accepted (C32)"]
          : [],
    },
    {
      label: "Policies",
      text:
        policies
          .map(
            (p) =>
              `${actionOf(p)} ${p.metadata.name} (${hasTargets(p) ? "waypoint" : p.spec?.selector === undefined ? "all pods" : "selector"})`,
          )
          .join("   ") || "none",
    },
  ];
  return {
    name: `namespace/${name}`,
    title: `Namespace ${name}`,
    lines,
    next: mode === "ambient" ? [`ambit check -n ${name}`] : [`ambit enroll ns/${name} --wait`],
    document: {
      kind: "NamespaceDescription",
      name,
      mode: mode ?? null,
      pods: {
        all: pods.length,
        captured: t.captured.length,
        pending: t.pending.length,
        outside: t.outside.length,
        skipped: t.skipped,
      },
      waypoint: waypoint.waypoint,
      mtls: mtls.mode,
      policies: policies.map((p) => ({ name: p.metadata.name, action: actionOf(p) })),
      notes: lines.flatMap((l) => l.notes ?? []),
    },
  };
}

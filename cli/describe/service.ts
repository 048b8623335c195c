// `describe service`: who serves it, in the mesh or not, and which waypoint stands in front.
import type { Cluster } from "#lib/kube/cluster.ts";
import { selects } from "#lib/kube/labels.ts";
import { RESOURCES, type Service } from "#lib/kube/objects.ts";
import { enrollmentOf, wantsMesh } from "../kube/enrollment.ts";
import type { MeshView } from "../kube/mesh-view.ts";
import { conditionOf, isReady } from "../kube/pod-state.ts";
import { actionOf, hasTargets } from "../kube/policies.ts";
import { accountOf } from "../waypoint/account-users.ts";
import type { Description, Line } from "./sections.ts";
import { waypointAnswer } from "./waypoint-line.ts";

export async function describeService(
  cluster: Cluster,
  service: Service,
  view: MeshView,
): Promise<Description> {
  const { name, namespace = "" } = service.metadata;
  const { selector = {}, ports = [] } = service.spec ?? {};
  const all = await cluster.list(RESOURCES.pods, { namespace });
  const pods =
    Object.keys(selector).length === 0
      ? []
      : all.filter((p) => selects(selector, p.metadata.labels));
  const home = view.namespaces.get(namespace) ?? null;
  const captured = pods.filter((p) => enrollmentOf(p, wantsMesh(p, home)).kind === "captured");
  const accounts = [...new Set(pods.map(accountOf))];
  const waypoint = waypointAnswer(service, "service", view);
  const bound = conditionOf(service.status?.conditions, "istio.io/WaypointBound");
  const policies = view.policies.filter(
    (p) =>
      p.metadata.namespace === namespace &&
      hasTargets(p) &&
      [
        ...(p.spec?.targetRefs ?? []),
        ...(p.spec?.targetRef === undefined ? [] : [p.spec.targetRef]),
      ].some(
        (r) =>
          (r.kind === "Service" && r.name === name) ||
          (r.kind === "Gateway" && waypoint.waypoint === `${namespace}/${r.name}`),
      ),
  );
  const isMixed = captured.length > 0 && captured.length < pods.length;
  const addresses =
    service.spec?.clusterIPs ??
    (service.spec?.clusterIP === undefined ? [] : [service.spec.clusterIP]);
  const lines: Line[] = [
    {
      label: "Ports",
      text:
        ports
          .map(
            (p) =>
              `${p.name ?? "-"} ${p.port}/${p.protocol ?? "TCP"}${p.targetPort === undefined ? "" : ` → ${p.targetPort}`}`,
          )
          .join("   ") || "none",
    },
    {
      label: "Pods",
      text: `${pods.filter(isReady).length}/${pods.length} ready, ${captured.length} captured`,
      notes: [
        ...(pods.length === 0 ? ["no pod serves it"] : []),
        ...(isMixed ? ["captured pods and others serve it together (C43)"] : []),
      ],
    },
    { label: "Accounts", text: accounts.join(", ") || "none" },
    { label: "Waypoint", text: waypoint.text, notes: waypoint.notes },
    ...(bound === undefined
      ? []
      : [
          {
            label: "Bound",
            text: `${bound.status} ${bound.reason ?? ""}${bound.message === undefined ? "" : `: ${bound.message}`}`,
          },
        ]),
    {
      label: "L7 policy",
      text:
        policies.map((p) => `${actionOf(p)} ${namespace}/${p.metadata.name}`).join("   ") || "none",
      notes:
        policies.length > 0 && waypoint.waypoint === null
          ? ["no waypoint enforces them: they have no effect (C33)"]
          : [],
    },
  ];
  return {
    name: `service/${name}`,
    title: `Service ${namespace}/${name}   type ${service.spec?.type ?? "ClusterIP"}   ip ${addresses.join(",") || "none"}`,
    lines,
    next: [
      `ambit explain connection pod/<client>.${namespace} svc/${name}.${namespace}:${ports[0]?.port ?? "<port>"}`,
    ],
    document: {
      kind: "ServiceDescription",
      namespace,
      name,
      addresses,
      pods: { all: pods.length, ready: pods.filter(isReady).length, captured: captured.length },
      serviceAccounts: accounts,
      waypoint: waypoint.waypoint,
      waypointBound: bound ?? null,
      policies: policies.map((p) => ({ namespace, name: p.metadata.name, action: actionOf(p) })),
      notes: lines.flatMap((l) => l.notes ?? []),
    },
  };
}

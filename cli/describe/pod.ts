// `describe pod`: is it in the mesh, who is it there, and which rules hold for it?
import type { Cluster } from "#lib/kube/cluster.ts";
import { selects } from "#lib/kube/labels.ts";
import { RESOURCES, type AuthorizationPolicy, type Pod } from "#lib/kube/objects.ts";
import { enrollmentOf, MODE_LABEL, REDIRECTION_ANNOTATION, wantsMesh } from "../kube/enrollment.ts";
import { findGateway, type MeshView } from "../kube/mesh-view.ts";
import { isReady, podProblem } from "../kube/pod-state.ts";
import { actionOf, hasTargets, l7Fields, mayAllow, mtlsOf, selectsPod } from "../kube/policies.ts";
import { waypointPrincipal } from "../kube/waypoints.ts";
import { formatAge } from "../render/units.ts";
import type { ConfigDump } from "../source/config-dump.ts";
import { accountOf } from "../waypoint/account-users.ts";
import type { Description, Line } from "./sections.ts";
import { waypointAnswer } from "./waypoint-line.ts";

export interface PodSight {
  /** Of the ztunnel on the pod's node; `null` when it does not answer, or was not asked. */
  readonly dump: ConfigDump | null;
  readonly now: number;
}

export async function describePod(
  cluster: Cluster,
  pod: Pod,
  view: MeshView,
  { dump, now }: PodSight,
): Promise<Description> {
  const { name, namespace = "" } = pod.metadata;
  const account = accountOf(pod);
  const identity = `spiffe://${view.trustDomain}/ns/${namespace}/sa/${account}`;
  const services = (await cluster.list(RESOURCES.services, { namespace })).filter(
    (s) =>
      Object.keys(s.spec?.selector ?? {}).length > 0 &&
      selects(s.spec?.selector ?? {}, pod.metadata.labels),
  );
  const toServices = services.map((s) => ({
    service: s,
    answer: waypointAnswer(s, "service", view),
  }));
  const toPod = waypointAnswer(pod, "workload", view);
  const l4 = view.policies.filter((p) => selectsPod(p, pod, view.rootNamespace));
  const waypoints = [
    ...new Set([...toServices.map((t) => t.answer.waypoint), toPod.waypoint]),
  ].filter((w) => w !== null);
  const mtls = mtlsOf(view.peerAuthentications, pod, view.rootNamespace);
  const capture = captureLine(pod, view);
  const seen = dump?.pods.some((p) => p.name === name && p.namespace === namespace) ?? null;
  const leaf = dump?.identities.find((i) => i.identity === identity);
  const from = mtls.from?.metadata;
  const lines: Line[] = [
    capture.line,
    ...(seen === null
      ? []
      : [
          {
            label: "Listeners",
            text: seen ? "open (its ztunnel serves it)" : "its ztunnel does not know it",
          },
        ]),
    {
      label: "Identity",
      text: `${identity}${leaf === undefined ? "" : `   cert ${certText(leaf, now)}`}`,
    },
    { label: "Services", text: services.map((s) => s.metadata.name).join(", ") || "none" },
    {
      label: "Waypoint",
      text: `to-service: ${[...new Set(toServices.map((t) => t.answer.text))].join(", ") || "none"}   to-pod: ${toPod.text}`,
      notes: [...new Set([...toServices.flatMap((t) => t.answer.notes), ...toPod.notes])],
    },
    {
      label: "mTLS",
      text: `${mtls.mode} (${from === undefined ? "no PeerAuthentication" : `PeerAuthentication ${from.namespace}/${from.name}`})`,
      notes: mtls.mode === "STRICT" ? [] : ["plaintext from outside the mesh is accepted (C32)"],
    },
    {
      label: "L4 policy",
      text: l4.map((p) => policyText(p, "selector")).join("   ") || "none: every peer may connect",
      notes: policyNotes(l4, waypoints, view),
    },
    {
      label: "L7 policy",
      text: l7Text(
        view,
        services.map((s) => s.metadata.name),
        namespace,
        waypoints,
      ),
    },
  ];
  const problem = podProblem(pod);
  return {
    name: `pod/${name}`,
    title: `Pod ${namespace}/${name}   node ${pod.spec?.nodeName ?? "none"}   ip ${pod.status?.podIP ?? "none"}   sa ${account}${problem === null ? "" : `   ${problem.reason}`}`,
    lines,
    next: [
      ...(capture.fix === null ? [] : [capture.fix]),
      `ambit explain connection pod/<client>.<namespace> pod/${name}.${namespace}:<port>`,
    ],
    document: {
      kind: "PodDescription",
      namespace,
      name,
      node: pod.spec?.nodeName ?? null,
      addresses: (pod.status?.podIPs ?? []).map((i) => i.ip),
      ready: isReady(pod),
      capture: capture.state,
      servedByZtunnel: seen,
      identity,
      certificate:
        leaf === undefined
          ? null
          : { state: leaf.state, notAfter: leaf.chain[0]?.expirationTime ?? null },
      services: services.map((s) => s.metadata.name),
      waypoint: {
        toService: toServices.map((t) => ({
          service: t.service.metadata.name,
          waypoint: t.answer.waypoint,
        })),
        toPod: toPod.waypoint,
      },
      mtls: { mode: mtls.mode, from: from === undefined ? null : `${from.namespace}/${from.name}` },
      policies: l4.map((p) => ({
        namespace: p.metadata.namespace,
        name: p.metadata.name,
        action: actionOf(p),
      })),
      notes: lines.flatMap((l) => l.notes ?? []),
    },
  };
}

function captureLine(
  pod: Pod,
  view: MeshView,
): { readonly line: Line; readonly state: string; readonly fix: string | null } {
  const { namespace = "", name } = pod.metadata;
  const home = view.namespaces.get(namespace) ?? null;
  const wants = wantsMesh(pod, home);
  const state = enrollmentOf(pod, wants);
  const own = pod.metadata.labels?.[MODE_LABEL];
  const inherited = home?.metadata.labels?.[MODE_LABEL];
  const label =
    own !== undefined
      ? `own label ${MODE_LABEL}=${own}`
      : inherited !== undefined
        ? `namespace label ${MODE_LABEL}=${inherited}`
        : "no label";
  const mark = pod.metadata.annotations?.[REDIRECTION_ANNOTATION];
  const detail = `(${label}; annotation ${REDIRECTION_ANNOTATION} ${mark ?? "absent"})`;
  switch (state.kind) {
    case "captured":
      return {
        line: { label: "Capture", text: `enabled  ${detail}` },
        state: "captured",
        fix: null,
      };
    case "pending":
      return {
        line: {
          label: "Capture",
          text: `pending  ${detail}`,
          notes: ["the CNI agent of its node has not taken it in yet (C30)"],
        },
        state: "pending",
        fix: "ambit check --only C20,C30",
      };
    case "skipped":
      return {
        line: { label: "Capture", text: `impossible: ${state.why}  ${detail}` },
        state: "skipped",
        fix: null,
      };
    case "outside":
      return {
        line: { label: "Capture", text: `none  ${detail}`, notes: ["its traffic is plaintext"] },
        state: "outside",
        fix: `ambit enroll pod/${name} -n ${namespace}`,
      };
    default:
      return state satisfies never;
  }
}

function certText(leaf: ConfigDump["identities"][number], now: number): string {
  const end = leaf.chain[0]?.expirationTime;
  const left = end === undefined ? "" : `, ${formatAge(Date.parse(end) - now)} left`;
  return `${leaf.state.split(":")[0]}${left}`;
}

function policyText(p: AuthorizationPolicy, where: string): string {
  const scope = p.spec?.selector === undefined ? "whole namespace" : where;
  return `${actionOf(p)} ${p.metadata.namespace}/${p.metadata.name} (${scope})`;
}

function policyNotes(
  l4: readonly AuthorizationPolicy[],
  waypoints: readonly string[],
  view: MeshView,
): string[] {
  const notes: string[] = [];
  for (const p of l4)
    if ((p.spec?.rules ?? []).some((r) => l7Fields(r).length > 0))
      notes.push(`${p.metadata.name} has fields of layer 7, which a ztunnel cannot see (C41)`);
  const allow = l4.filter((p) => actionOf(p) === "ALLOW");
  if (allow.length === 0) return notes;
  for (const w of waypoints) {
    const [namespace = "", name = ""] = w.split("/", 2);
    const gateway = findGateway(view, { namespace, name });
    if (gateway === null) continue;
    const principal = waypointPrincipal(gateway, view.trustDomain);
    if (!allow.some((p) => mayAllow(p, principal)))
      notes.push(
        `${allow[0]?.metadata.name} does not admit ${principal}: requests through the waypoint will be denied (C40)`,
      );
  }
  return notes;
}

function l7Text(
  view: MeshView,
  services: readonly string[],
  namespace: string,
  waypoints: readonly string[],
): string {
  const found = view.policies.filter((p) => {
    if (!hasTargets(p)) return false;
    const refs = [
      ...(p.spec?.targetRefs ?? []),
      ...(p.spec?.targetRef === undefined ? [] : [p.spec.targetRef]),
    ];
    return refs.some((r) =>
      r.kind === "Gateway"
        ? waypoints.includes(`${p.metadata.namespace}/${r.name}`)
        : p.metadata.namespace === namespace && services.includes(r.name),
    );
  });
  return (
    found
      .map((p) => policyText(p, "waypoint").replace("whole namespace", "waypoint"))
      .join("   ") || "none"
  );
}

// Checks of what users' namespaces hold: enrolment, waypoints, and policies that do not do what they seem to.
import { RESOURCES, type Namespace, type Pod } from "#lib/kube/objects.ts";
import { selects } from "#lib/kube/labels.ts";
import { enrollmentOf, MODE_LABEL, wantsMesh } from "../kube/enrollment.ts";
import { findGateway, gatewayClassOf, readMeshView, type MeshView } from "../kube/mesh-view.ts";
import { actionOf, hasTargets, l7Fields, mayAllow, mtlsOf, selectsPod } from "../kube/policies.ts";
import {
  GATEWAY_NAME,
  isProgrammed,
  trafficOf,
  waypointFault,
  waypointPrincipal,
  waypointUse,
  type WaypointFault,
} from "../kube/waypoints.ts";
import type { Check, Finding } from "./check.ts";
import type { CheckContext } from "./context.ts";
import { policyReferenceFindings } from "./policy-references.ts";

const SHOWN = 5;

export const NAMESPACE_CHECKS: readonly Check[] = [
  {
    id: "C30",
    severity: "error",
    title: "pods that should be in the mesh are captured",
    async run(context) {
      return await perNamespace(context, (namespace, pods) =>
        namedPods(namespace, pods, "pending").map((list) => ({
          text: `pods of ${namespace.metadata.name} wait to be captured: ${list}`,
          object: `namespace/${namespace.metadata.name}`,
          hint: "is the CNI agent of their node ready? ambit check --only C20; pods it cannot repair are made anew by deleting them",
        })),
      );
    },
  },
  {
    id: "C31",
    severity: "warning",
    title: "no pod of an enrolled namespace is beyond the mesh",
    async run(context) {
      return await perNamespace(context, (namespace, pods) => {
        if (namespace.metadata.labels?.[MODE_LABEL] !== "ambient") return [];
        const out = pods.flatMap((p) => {
          const state = enrollmentOf(p, wantsMesh(p, namespace));
          return state.kind === "skipped" && state.why !== "finished" && !isInfrastructure(p)
            ? [`${p.metadata.name} (${state.why})`]
            : [];
        });
        if (out.length === 0) return [];
        return [
          {
            text: `pods of ${namespace.metadata.name} are not captured: ${shortList(out)}`,
            object: `namespace/${namespace.metadata.name}`,
            hint: "their traffic is plaintext and policies for it see no identity",
          },
        ];
      });
    },
  },
  {
    id: "C32",
    severity: "warning",
    title: "enrolled namespaces accept mutual TLS only",
    async run(context) {
      const view = await viewOf(context);
      return [...(await context.namespaces()).values()].flatMap((n): Finding[] => {
        if (n.metadata.labels?.[MODE_LABEL] !== "ambient") return [];
        const { mode } = mtlsOf(
          view.peerAuthentications,
          { metadata: { name: "any", namespace: n.metadata.name } },
          view.rootNamespace,
        );
        if (mode === "STRICT") return [];
        return [
          {
            text: `namespace ${n.metadata.name} is ${mode}: plaintext from outside the mesh is accepted`,
            object: `namespace/${n.metadata.name}`,
            hint: `apply a PeerAuthentication there: {apiVersion: security.istio.io/v1, kind: PeerAuthentication, metadata: {name: default, namespace: ${n.metadata.name}}, spec: {mtls: {mode: STRICT}}}`,
          },
        ];
      });
    },
  },
  {
    id: "C33",
    severity: "warning",
    title: "waypoints that are asked for are there and take the traffic",
    run: waypointFindings,
  },
  {
    id: "C40",
    severity: "error",
    title: "policies of pods behind a waypoint admit the waypoint",
    run: unadmittedWaypoints,
  },
  {
    id: "C41",
    severity: "error",
    title: "policies that ztunnels enforce need no layer 7",
    async run(context) {
      const { policies } = await viewOf(context);
      return policies.flatMap((p): Finding[] => {
        const { namespace, name } = p.metadata;
        if (hasTargets(p) || (context.namespace !== undefined && namespace !== context.namespace))
          return [];
        const fields = [...new Set((p.spec?.rules ?? []).flatMap(l7Fields))];
        if (fields.length === 0) return [];
        const effect =
          actionOf(p) === "DENY"
            ? "rules made of nothing else deny nothing"
            : "rules with them admit nothing";
        return [
          {
            text: `AuthorizationPolicy ${namespace}/${name} uses ${fields.join(", ")}, which a ztunnel cannot see: ${effect}`,
            object: `authorizationpolicy/${namespace}/${name}`,
            hint: "give it targetRefs (a Service behind a waypoint) instead of a selector",
          },
        ];
      });
    },
  },
  {
    id: "C42",
    severity: "warning",
    title: "policies name accounts, namespaces and pods that exist",
    async run(context) {
      return await policyReferenceFindings(context, await viewOf(context));
    },
  },
  {
    id: "C43",
    severity: "warning",
    title: "services do not mix captured pods with others",
    run: mixedServices,
  },
];

const VIEWS = new WeakMap<CheckContext, Promise<MeshView>>();

function viewOf(context: CheckContext): Promise<MeshView> {
  let view = VIEWS.get(context);
  if (view === undefined) {
    view = readMeshView(context.kube.cluster, context.kube.meshNamespace);
    VIEWS.set(context, view);
  }
  return view;
}

async function perNamespace(
  context: CheckContext,
  look: (namespace: Namespace, pods: readonly Pod[]) => readonly Finding[],
): Promise<readonly Finding[]> {
  const found: Finding[] = [];
  for (const namespace of (await context.namespaces()).values())
    found.push(...look(namespace, await context.podsOf(namespace.metadata.name)));
  return found;
}

function namedPods(namespace: Namespace, pods: readonly Pod[], kind: "pending"): readonly string[] {
  const names = pods
    .filter((p) => p.status?.phase === "Running" && p.metadata.deletionTimestamp === undefined)
    .filter((p) => enrollmentOf(p, wantsMesh(p, namespace)).kind === kind)
    .map((p) => p.metadata.name);
  return names.length === 0 ? [] : [shortList(names)];
}

/** Waypoints and gateways opt out by their making. */
function isInfrastructure(pod: Pod): boolean {
  return pod.metadata.labels?.[GATEWAY_NAME] !== undefined;
}

function shortList(names: readonly string[]): string {
  const more = names.length > SHOWN ? ` and ${names.length - SHOWN} more` : "";
  return `${names.slice(0, SHOWN).join(", ")}${more}`;
}

const FAULT_HINT: Record<WaypointFault, (name: string, namespace: string) => string> = {
  missing: (name, ns) => `ambit waypoint apply --name ${name} -n ${ns}`,
  "not programmed": (name, ns) => `ambit waypoint status ${name} -n ${ns}`,
  "wrong type": (name, ns) => `ambit waypoint apply --name ${name} -n ${ns} --for all --overwrite`,
  "not admitted": () => "let its listener's allowedRoutes.namespaces admit the namespace",
};

async function waypointFindings(context: CheckContext): Promise<Finding[]> {
  const view = await viewOf(context);
  const found = new Map<string, Finding>();
  const [services, pods] = await Promise.all([
    context.list(RESOURCES.services),
    context.list(RESOURCES.pods),
  ]);
  const chosen = await context.namespaces();
  const look = (o: Pod | (typeof services)[number], kind: "service" | "workload"): void => {
    const namespace = chosen.get(o.metadata.namespace ?? "");
    if (namespace === undefined || o.metadata.labels?.[GATEWAY_NAME] !== undefined) return;
    const use = waypointUse(o, namespace);
    // A namespace's label says nothing about pods when its waypoint takes services only.
    if (use === null || (kind === "workload" && use.level === "namespace")) return;
    const gateway = findGateway(view, use);
    const gatewayClass = gateway === null ? null : gatewayClassOf(view, gateway);
    const fault = waypointFault(use, kind, namespace, gateway, gatewayClass);
    const isDown = fault === null && gateway !== null && !isProgrammed(gateway);
    if (fault === null && !isDown) return;
    const who =
      use.level === "namespace"
        ? `namespace/${namespace.metadata.name}`
        : `${kind === "service" ? "service" : "pod"}/${namespace.metadata.name}/${o.metadata.name}`;
    const asked = `${who} asks for waypoint ${use.namespace}/${use.name}, which`;
    found.set(`${who} ${use.name}`, {
      text:
        fault === null
          ? `${asked} has no ready pod: its traffic is refused, never sent around it`
          : `${asked} is ${fault}: policies with targetRefs are bypassed`,
      object: who,
      hint: FAULT_HINT[fault ?? "not programmed"](use.name, use.namespace),
    });
  };
  for (const s of services) look(s, "service");
  for (const p of pods) look(p, "workload");
  return [...found.values()];
}

async function unadmittedWaypoints(context: CheckContext): Promise<Finding[]> {
  const view = await viewOf(context);
  const found = new Map<string, Finding>();
  const services = await context.list(RESOURCES.services);
  for (const [name, namespace] of await context.namespaces())
    for (const pod of await context.podsOf(name)) {
      if (pod.metadata.labels?.[GATEWAY_NAME] !== undefined) continue;
      const allow = view.policies.filter(
        (p) => actionOf(p) === "ALLOW" && selectsPod(p, pod, view.rootNamespace),
      );
      if (allow.length === 0) continue;
      const serving = services.filter(
        (s) =>
          s.metadata.namespace === name &&
          s.spec?.selector !== undefined &&
          Object.keys(s.spec.selector).length > 0 &&
          selects(s.spec.selector, pod.metadata.labels),
      );
      const uses = [...serving, pod].map((o) => ({
        use: waypointUse(o, namespace),
        kind: o === pod ? ("workload" as const) : ("service" as const),
      }));
      for (const { use, kind } of uses) {
        const gateway = use === null ? null : findGateway(view, use);
        if (use === null || gateway === null) continue;
        const gatewayClass = gatewayClassOf(view, gateway);
        if (waypointFault(use, kind, namespace, gateway, gatewayClass) !== null) continue;
        if (kind === "workload" && !["workload", "all"].includes(trafficOf(gateway, gatewayClass)))
          continue;
        const principal = waypointPrincipal(gateway, view.trustDomain);
        if (allow.some((p) => mayAllow(p, principal))) continue;
        const [policy] = allow;
        const { namespace: where, name: what } = policy?.metadata ?? { name: "" };
        found.set(`${where}/${what} ${principal}`, {
          text: `AuthorizationPolicy ${where}/${what} does not admit the waypoint ${use.namespace}/${use.name} in front of its pods: what comes through it is denied`,
          object: `authorizationpolicy/${where}/${what}`,
          hint: `add the principal ${principal}`,
        });
      }
    }
  return [...found.values()];
}

async function mixedServices(context: CheckContext): Promise<Finding[]> {
  const found: Finding[] = [];
  const services = await context.list(RESOURCES.services);
  for (const [name, namespace] of await context.namespaces()) {
    const pods = (await context.podsOf(name)).filter((p) => p.status?.phase === "Running");
    for (const s of services) {
      const { selector } = s.spec ?? {};
      if (s.metadata.namespace !== name || selector === undefined) continue;
      if (Object.keys(selector).length === 0) continue;
      const mine = pods.filter((p) => selects(selector, p.metadata.labels));
      const captured = mine.filter(
        (p) => enrollmentOf(p, wantsMesh(p, namespace)).kind === "captured",
      );
      if (captured.length === 0 || captured.length === mine.length) continue;
      const others = mine.filter((p) => !captured.includes(p)).map((p) => p.metadata.name);
      found.push({
        text: `service ${name}/${s.metadata.name} has captured pods and others: ${shortList(others)}`,
        object: `service/${name}/${s.metadata.name}`,
        hint: "enrol all of them or none: ambit enroll, ambit unenroll",
      });
    }
  }
  return found;
}

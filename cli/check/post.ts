// Checks of an installed mesh: does every part run, agree with the others, and reach them?
import { RESOURCES, type Pod } from "#lib/kube/objects.ts";
import { clientVersion } from "../client-version.ts";
import { lastLogLine, readinessOf } from "../install/rollout.ts";
import { enrollmentOf, wantsMesh } from "../kube/enrollment.ts";
import { containerStatuses, isReady, podProblem } from "../kube/pod-state.ts";
import { formatAge } from "../render/units.ts";
import { syncStatus } from "../source/sync-status.ts";
import type { Check, Finding } from "./check.ts";
import type { CheckContext } from "./context.ts";
import { blockersOf15008 } from "./network-policy.ts";

const PARTS = [
  { kind: "deployment", name: "istiod", resource: RESOURCES.deployments },
  { kind: "daemonset", name: "istio-cni-node", resource: RESOURCES.daemonSets },
  { kind: "daemonset", name: "ztunnel", resource: RESOURCES.daemonSets },
] as const;
/** Names in one sentence. */
const SHOWN_PODS = 3;
const ROOT_CERT = "istio-ca-root-cert";
/** A certificate with less of its life left should have been renewed: renewal comes at half. */
const LEAST_LIFE_LEFT = 0.2;
/** Namespaces that get no root certificate. */
const WITHOUT_ROOT = new Set(["kube-public", "kube-node-lease", "local-path-storage"]);

export const POST_CHECKS: readonly Check[] = [
  {
    id: "C20",
    severity: "error",
    title: "istiod, the CNI agents and the ztunnels are ready",
    async run(context) {
      const found: Finding[] = [];
      for (const { kind, name, resource } of PARTS) {
        if (context.node !== undefined && kind === "deployment") continue; // at home on no node
        const namespace = context.kube.meshNamespace;
        const object = `${kind}/${namespace}/${name}`;
        const part = await context.kube.cluster.get(resource, namespace, name);
        if (part === null) {
          found.push({ text: `${object} does not exist`, object, hint: "ambit install" });
          continue;
        }
        if (context.node !== undefined && (await partPods(context, name)).length === 0) {
          const hint = `kubectl -n ${namespace} describe ${kind} ${name}`;
          found.push({ text: `${object} runs no pod on node ${context.node}`, object, hint });
          continue;
        }
        const { ready, desired, isDone } = readinessOf(part);
        if (kind === "deployment" && desired === 0) {
          const hint = `kubectl -n ${namespace} scale ${kind} ${name} --replicas 1`;
          found.push({ text: `${object} is scaled to 0 replicas`, object, hint });
          continue;
        }
        if (kind === "daemonset" && desired === 0 && isDone) {
          const pods = await enrolledPods(context);
          if (pods.length > 0) found.push(runsNowhere(context, name, pods));
          continue;
        }
        if (isDone) continue;
        const pods = await unreadyPods(context, part.spec?.selector?.matchLabels ?? {});
        if (pods.length === 0 && context.node === undefined)
          found.push({
            text: `${object} has ${ready} of ${desired} ready`,
            object,
            hint: `kubectl -n ${namespace} describe ${kind} ${name}`,
          });
        for (const pod of pods) found.push(await podFinding(context, pod));
      }
      return found;
    },
  },
  {
    id: "C21",
    severity: "error",
    title: "the CNI plugin is in place on every node",
    async run(context) {
      const agents = await partPods(context, "istio-cni-node");
      if (agents.length === 0) {
        const pods = await enrolledPods(context);
        if (pods.length > 0) return [runsNowhere(context, "istio-cni-node", pods)];
        return { skipped: "no CNI agent runs, and no pod is enrolled" };
      }
      const nodes = (await context.list(RESOURCES.nodes)).filter(
        (n) => (n.metadata.labels?.["kubernetes.io/os"] ?? "linux") === "linux",
      );
      const found: Finding[] = [];
      for (const { metadata } of nodes) {
        const agent = agents.find((p) => p.spec?.nodeName === metadata.name);
        if (agent !== undefined && isReady(agent)) continue;
        const object = `node/${metadata.name}`;
        const text =
          agent === undefined
            ? `no CNI agent runs on node ${metadata.name}`
            : `the CNI agent of node ${metadata.name} does not vouch for plugin and configuration`;
        const hint =
          agent === undefined
            ? `kubectl describe daemonset istio-cni-node -n ${context.kube.meshNamespace}`
            : `kubectl logs -n ${context.kube.meshNamespace} ${agent.metadata.name} names the file; did another CNI rewrite it?`;
        found.push({ text, object, hint });
      }
      return found;
    },
  },
  {
    id: "C22",
    severity: "error",
    title: "every ztunnel has all that istiod knows",
    async run(context) {
      const clients = await syncStatus(await context.source(), context.deadline());
      if (clients === null) return { skipped: "no istiod answers" };
      const ztunnels = await partPods(context, "ztunnel");
      return ztunnels.flatMap((pod): Finding[] => {
        const { name, namespace = "" } = pod.metadata;
        const object = `pod/${namespace}/${name}`;
        const hint = `kubectl -n ${namespace} logs ${name} | grep xds`;
        const client = clients.find((c) => c.name === name && c.namespace === namespace);
        if (client === undefined)
          return [{ text: `${object} is not connected to istiod`, object, hint }];
        const late = client.types.filter((t) => t.status === "STALE" || t.status === "NOT_SENT");
        return late.map((t) => ({
          text: `${object} has not acknowledged ${t.type}`,
          object,
          hint,
        }));
      });
    },
  },
  {
    id: "C23",
    severity: "error",
    title: "one root certificate everywhere, and certificates with life left",
    async run(context) {
      return [...(await rootFindings(context)), ...(await leafFindings(context))];
    },
  },
  {
    id: "C24",
    severity: "warning",
    title: "all parts are of neighbouring versions",
    async run(context) {
      const own = clientVersion();
      const found: Finding[] = [];
      const compare = (what: string, version: string): void => {
        if (version === "" || version === "unknown" || !areFarApart(own, version)) return;
        found.push({
          text: `${what} is ${version}, this program ${own}`,
          hint: "bring the mesh up to date with ambit install, or use the matching ambit",
        });
      };
      const source = await context.source();
      const istiod = await source.istiodVersion(context.deadline()).catch(() => "");
      compare("istiod", istiod);
      for (const { node, value } of (await context.dumps())?.answers ?? [])
        compare(`the ztunnel of node ${node}`, value.version);
      return found;
    },
  },
  {
    id: "C25",
    severity: "error",
    title: "no NetworkPolicy keeps tunnels (port 15008) from enrolled pods",
    run: blockersOf15008,
  },
];

/** In the mesh, or waiting for it; `namespace/name`. */
async function enrolledPods(context: CheckContext): Promise<readonly string[]> {
  const namespaces = new Map(
    (await context.list(RESOURCES.namespaces)).map((n) => [n.metadata.name, n]),
  );
  return (await context.list(RESOURCES.pods))
    .filter((p) => {
      const namespace = namespaces.get(p.metadata.namespace ?? "") ?? null;
      return ["captured", "pending"].includes(enrollmentOf(p, wantsMesh(p, namespace)).kind);
    })
    .map((p) => `${p.metadata.namespace}/${p.metadata.name}`);
}

function runsNowhere({ kube, node }: CheckContext, name: string, pods: readonly string[]): Finding {
  const namespace = kube.meshNamespace;
  const object = `daemonset/${namespace}/${name}`;
  const shown = pods.slice(0, SHOWN_PODS).join(", ");
  return {
    text: `${object} runs no pod on ${node === undefined ? "any node" : `node ${node}`}, and ${pods.length} pod(s) are enrolled: ${shown}${pods.length > SHOWN_PODS ? " …" : ""}`,
    object,
    hint: `kubectl -n ${namespace} describe daemonset ${name}: does its node selector match a node?`,
  };
}

async function partPods(context: CheckContext, app: string): Promise<readonly Pod[]> {
  const pods = await context.podsOf(context.kube.meshNamespace);
  return pods.filter((p) => p.metadata.labels?.["app"] === app);
}

async function unreadyPods(
  context: CheckContext,
  labels: Readonly<Record<string, string>>,
): Promise<readonly Pod[]> {
  const { selects } = await import("#lib/kube/labels.ts");
  const pods = await context.podsOf(context.kube.meshNamespace);
  return pods.filter((p) => selects(labels, p.metadata.labels) && podProblem(p) !== null);
}

async function podFinding(context: CheckContext, pod: Pod): Promise<Finding> {
  const { name, namespace = "" } = pod.metadata;
  const problem = podProblem(pod);
  const container = problem?.container ?? containerStatuses(pod)[0]?.name ?? null;
  const last =
    container === null ? "" : await lastLogLine(context.kube, pod, container, context.deadline());
  const message = [problem?.reason, problem?.message].filter(Boolean).join(": ");
  return {
    text: `pod ${namespace}/${name} on node ${pod.spec?.nodeName ?? "none"} is not ready: ${message}${last === "" ? "" : `; last log line: ${last}`}`,
    object: `pod/${namespace}/${name}`,
    hint: `kubectl -n ${namespace} describe pod ${name}`,
  };
}

async function rootFindings(context: CheckContext): Promise<Finding[]> {
  const maps = (await context.list(RESOURCES.configMaps)).filter(
    (c) => c.metadata.name === ROOT_CERT,
  );
  const home = context.kube.meshNamespace;
  const root = maps.find((c) => c.metadata.namespace === home)?.data?.["root-cert.pem"];
  if (root === undefined)
    return [
      {
        text: `namespace ${home} has no root certificate`,
        object: `configmap/${home}/${ROOT_CERT}`,
        hint: "istiod writes it: ambit status",
      },
    ];
  return [...(await context.namespaces()).values()].flatMap(({ metadata, status }): Finding[] => {
    if (WITHOUT_ROOT.has(metadata.name) || status?.phase === "Terminating") return [];
    const theirs = maps.find((c) => c.metadata.namespace === metadata.name)?.data?.[
      "root-cert.pem"
    ];
    if (theirs === root) return [];
    return [
      {
        text: `namespace ${metadata.name} has ${theirs === undefined ? "no" : "another"} root certificate`,
        object: `configmap/${metadata.name}/${ROOT_CERT}`,
        hint: "istiod repairs it within seconds when it leads: kubectl -n istio-system logs deploy/istiod",
      },
    ];
  });
}

async function leafFindings(context: CheckContext): Promise<Finding[]> {
  const { now } = context;
  return ((await context.dumps())?.answers ?? []).flatMap(({ node, value }) =>
    value.identities.flatMap(({ identity, state, chain }): Finding[] => {
      const hint = `ambit ztunnel-config certificate --node ${node} -o wide`;
      const object = `node/${node}`;
      if (state.startsWith("Unavailable"))
        return [{ text: `${identity} has no certificate on node ${node}: ${state}`, object, hint }];
      const [leaf] = chain;
      if (leaf === undefined) return [];
      const [from, to] = [Date.parse(leaf.validFrom), Date.parse(leaf.expirationTime)];
      if (now < from)
        return [
          {
            text: `the clock of node ${node} or of this machine is off: ${identity} is valid in ${formatAge(from - now)}`,
            object,
            hint,
          },
        ];
      if ((to - now) / (to - from) >= LEAST_LIFE_LEFT) return [];
      const left = to <= now ? "has expired" : `ends in ${formatAge(to - now)}`;
      return [{ text: `the certificate of ${identity} on node ${node} ${left}`, object, hint }];
    }),
  );
}

/** Another major, or more than one minor apart. */
function areFarApart(a: string, b: string): boolean {
  const parts = (v: string): readonly number[] => v.split(".").map((n) => Number.parseInt(n, 10));
  const [aMajor = 0, aMinor = 0] = parts(a);
  const [bMajor = 0, bMinor = 0] = parts(b);
  return aMajor !== bMajor || Math.abs(aMinor - bMinor) > 1;
}

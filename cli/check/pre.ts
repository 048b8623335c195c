// Checks before an installation: can this cluster, and may this user, carry the mesh?
import { RESOURCES } from "#lib/kube/objects.ts";
import { MODE_LABEL } from "../kube/enrollment.ts";
import { APPLY_GATEWAY_API } from "../kube/missing-kind.ts";
import type { Check, Finding } from "./check.ts";
import { describeOwner, foreignMeshes } from "./foreign-mesh.ts";
import { inotifyFindings } from "./inotify.ts";
import { missingPermissions } from "./permissions.ts";
import { platformOf, platformFindings } from "./platform.ts";

/** Minor versions of Kubernetes 1: the oldest that works, and the newest that is tested. */
const OLDEST_MINOR = 32;
const NEWEST_MINOR = 37;
const OLDEST_KERNEL = [5, 4] as const;

export const PRE_CHECKS: readonly Check[] = [
  {
    id: "C01",
    severity: "error",
    title: "may create everything the mesh consists of",
    run: missingPermissions,
  },
  {
    id: "C02",
    severity: "error",
    title: "Kubernetes is of a supported version",
    async run({ kube, signal }) {
      const { major, minor, gitVersion } = await kube.server.version(signal);
      const number = Number.parseInt(minor, 10);
      const range = `1.${OLDEST_MINOR} to 1.${NEWEST_MINOR}`;
      if (major === "1" && number >= OLDEST_MINOR) return [];
      return [{ text: `Kubernetes ${gitVersion} is too old`, hint: `supported: ${range}` }];
    },
  },
  {
    id: "C03",
    severity: "error",
    title: "the Gateway API is there",
    async run(context) {
      const crds = await context.list(RESOURCES.customResourceDefinitions);
      const missing = ["gateways", "gatewayclasses", "httproutes"].filter((plural) => {
        const crd = crds.find((c) => c.metadata.name === `${plural}.gateway.networking.k8s.io`);
        return crd === undefined || !servesV1(crd.spec);
      });
      if (missing.length === 0) return [];
      return [
        {
          text: `${missing.join(", ")} of gateway.networking.k8s.io/v1 are not served: waypoints need them`,
          hint: APPLY_GATEWAY_API,
        },
      ];
    },
  },
  {
    id: "C04",
    severity: "error",
    title: "nodes run Linux on amd64 or arm64 with a kernel that can redirect",
    async run(context) {
      const nodes = await context.list(RESOURCES.nodes);
      if (nodes.length === 0) return { skipped: "the cluster has no nodes" };
      return nodes.flatMap((n): Finding[] => {
        const info = nodeInfo(n.status);
        const wrong = [
          info.operatingSystem !== "linux" ? `operating system ${info.operatingSystem}` : null,
          ["amd64", "arm64"].includes(info.architecture)
            ? null
            : `architecture ${info.architecture}`,
          isOldKernel(info.kernelVersion) ? `kernel ${info.kernelVersion}` : null,
        ].filter((w) => w !== null);
        if (wrong.length === 0) return [];
        return [
          {
            text: `node ${n.metadata.name} has ${wrong.join(", ")}`,
            object: `node/${n.metadata.name}`,
            hint: `pods there stay outside the mesh; needed: Linux ${OLDEST_KERNEL.join(".")} or newer, amd64 or arm64`,
          },
        ];
      });
    },
  },
  {
    id: "C05",
    severity: "warning",
    title: "CNI files are where the agent looks",
    async run(context) {
      const nodes = await context.list(RESOURCES.nodes);
      if (nodes.length === 0) return { skipped: "the cluster has no nodes" };
      return platformFindings(platformOf(nodes));
    },
  },
  {
    id: "C06",
    severity: "warning",
    title: "the cluster's network lets another plugin join in",
    async run({ kube }) {
      const config = await kube.cluster.get(RESOURCES.configMaps, "kube-system", "cilium-config");
      const found: Finding[] = [];
      if (config?.data !== undefined && config.data["cni-exclusive"] !== "false")
        found.push({
          text: "Cilium removes CNI configuration that is not its own (cni-exclusive)",
          object: "configmap/kube-system/cilium-config",
          hint: "set the Helm value cni.exclusive=false",
        });
      if (config?.data?.["enable-bpf-masquerade"] === "true")
        found.push({
          text: "Cilium masquerades in BPF, which hides the kubelet's probes from the mesh",
          object: "configmap/kube-system/cilium-config",
          hint: "set the Helm value bpf.masquerade=false",
        });
      return found;
    },
  },
  {
    id: "C07",
    severity: "warning",
    title: "critical pods are admitted in the mesh's namespace",
    async run(context) {
      const { kube } = context;
      const found: Finding[] = [];
      const namespace = await kube.cluster.get(RESOURCES.namespaces, null, kube.meshNamespace);
      const level = namespace?.metadata.labels?.["pod-security.kubernetes.io/enforce"];
      if (level !== undefined && level !== "privileged")
        found.push({
          text: `namespace ${kube.meshNamespace} enforces pod security ${level}`,
          object: `namespace/${kube.meshNamespace}`,
          hint: `ambit label namespace ${kube.meshNamespace} pod-security.kubernetes.io/enforce=privileged --overwrite`,
        });
      if (platformOf(await context.list(RESOURCES.nodes)) === "gke")
        found.push({
          text: "GKE admits critical pods outside kube-system only under a ResourceQuota",
          hint: "use an overlay with manifests/components/gke: --overlay DIR",
        });
      return found;
    },
  },
  {
    id: "C08",
    severity: "warning",
    title: "inotify limits suffice for a cluster on this machine",
    run: inotifyFindings,
  },
  {
    id: "C09",
    severity: "warning",
    title: "no namespace asks for sidecars and for the mesh at once",
    async run(context) {
      return [...(await context.namespaces()).values()].flatMap(({ metadata }): Finding[] => {
        const labels = metadata.labels ?? {};
        const asks = ["istio-injection", "istio.io/rev"].find((k) => labels[k] !== undefined);
        if (labels[MODE_LABEL] !== "ambient" || asks === undefined) return [];
        if (asks === "istio-injection" && labels[asks] !== "enabled") return [];
        return [
          {
            text: `namespace ${metadata.name} is labelled ${asks}=${labels[asks]} and ${MODE_LABEL}=ambient`,
            object: `namespace/${metadata.name}`,
            hint: `ambit label namespace ${metadata.name} ${asks}-`,
          },
        ];
      });
    },
  },
  {
    id: "C10",
    severity: "error",
    title: "no other mesh stands where this one goes",
    async run(context) {
      return (await foreignMeshes(context)).map(describeOwner);
    },
  },
];

function servesV1(spec: unknown): boolean {
  const { versions } = (spec ?? {}) as {
    readonly versions?: readonly { readonly name?: string; readonly served?: boolean }[];
  };
  return versions?.some((v) => v.name === "v1" && v.served === true) === true;
}

interface NodeInfo {
  readonly operatingSystem: string;
  readonly architecture: string;
  readonly kernelVersion: string;
}

function nodeInfo(status: unknown): NodeInfo {
  const { nodeInfo: info } = (status ?? {}) as { readonly nodeInfo?: Partial<NodeInfo> };
  return {
    operatingSystem: info?.operatingSystem ?? "linux",
    architecture: info?.architecture ?? "amd64",
    kernelVersion: info?.kernelVersion ?? "",
  };
}

function isOldKernel(version: string): boolean {
  const [, major = 0, minor = 0] = (/^(\d+)\.(\d+)/.exec(version) ?? []).map(Number);
  if (major === 0) return false;
  return major < OLDEST_KERNEL[0] || (major === OLDEST_KERNEL[0] && minor < OLDEST_KERNEL[1]);
}

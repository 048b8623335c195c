// C10: another mesh that owns what this one would.
import { RESOURCES, type PodController } from "#lib/kube/objects.ts";
import type { Finding } from "./check.ts";
import type { CheckContext } from "./context.ts";

export const PART_OF_LABEL = "app.kubernetes.io/part-of";
export const PART_OF = "ambit";

interface Owner {
  readonly object: string;
  readonly what: string;
}

export function isOurs(labels: Readonly<Record<string, string>> | undefined): boolean {
  return labels?.[PART_OF_LABEL] === PART_OF;
}

export async function foreignMeshes(context: CheckContext): Promise<readonly Owner[]> {
  const found: Owner[] = [];
  const [deployments, daemonSets, webhooks] = await Promise.all([
    context.list(RESOURCES.deployments),
    context.list(RESOURCES.daemonSets),
    context.list(RESOURCES.mutatingWebhookConfigurations),
  ]);
  const add = (o: PodController, what: string): void => {
    const { namespace, name, labels } = o.metadata;
    if (!isOurs(labels))
      found.push({ object: `${o.kind.toLowerCase()}/${namespace}/${name}`, what });
  };
  for (const d of deployments) {
    if (d.metadata.labels?.["app"] === "istiod") add(d, "Istio's control plane");
    if (d.metadata.labels?.["linkerd.io/control-plane-component"] === "destination")
      add(d, "Linkerd's control plane");
  }
  for (const d of daemonSets)
    if (["istio-cni-node", "ztunnel"].includes(d.metadata.name)) add(d, "Istio's node agent");
  for (const w of webhooks)
    if (w.metadata.name.startsWith("istio-sidecar-injector"))
      found.push({
        object: `mutatingwebhookconfiguration/${w.metadata.name}`,
        what: "Istio's sidecar injection",
      });
  return found;
}

export function describeOwner({ object, what }: Owner): Finding {
  return {
    text: `${what} is installed: ${object}`,
    object,
    hint: "uninstall it first (istioctl uninstall --purge); two meshes cannot share nodes",
  };
}

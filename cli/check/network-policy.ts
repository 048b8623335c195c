// C25: NetworkPolicies that admit an application's ports and not the mesh's, as the CNI agents judge them.
import { policyFindings } from "#lib/kube/network-policy.ts";
import { RESOURCES, type Pod } from "#lib/kube/objects.ts";
import { PORT } from "#lib/net/ports.ts";
import { REDIRECTION_ANNOTATION } from "../kube/enrollment.ts";
import type { Finding } from "./check.ts";
import type { CheckContext } from "./context.ts";

const SHOWN = 3;

/** What refuses everything refuses the mesh as meant; what lets something in and the mesh not is a trap. */
export async function blockersOf15008(context: CheckContext): Promise<Finding[]> {
  const policies = await context.list(RESOURCES.networkPolicies);
  const blocked = new Map<string, string[]>();
  for (const namespace of (await context.namespaces()).keys()) {
    const here = policies.filter((p) => p.metadata.namespace === namespace);
    if (here.length === 0) continue;
    for (const pod of (await context.podsOf(namespace)).filter(isCaptured))
      for (const f of policyFindings(here, pod)) {
        if (f.kind !== "mesh port refused") continue;
        for (const name of f.policies) {
          const key = `${namespace}/${name} ${f.direction}`;
          blocked.set(key, [...(blocked.get(key) ?? []), pod.metadata.name]);
        }
      }
  }
  return [...blocked].map(([key, pods]) => {
    const [policy = "", direction = ""] = key.split(" ");
    const more = pods.length > SHOWN ? ` and ${pods.length - SHOWN} more` : "";
    return {
      text: `NetworkPolicy ${policy} lets ${direction} of ${pods.slice(0, SHOWN).join(", ")}${more} through, but no tunnels`,
      object: `networkpolicy/${policy}`,
      hint: `add to spec.${direction}: {ports: [{port: ${PORT.hbone}, protocol: TCP}]}`,
    };
  });
}

function isCaptured(pod: Pod): boolean {
  return pod.metadata.annotations?.[REDIRECTION_ANNOTATION] === "enabled";
}

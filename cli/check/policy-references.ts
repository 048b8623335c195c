// C42: what policies name that is not there. Names with wildcards, and of other clusters, are not looked for.
import { selects } from "#lib/kube/labels.ts";
import { RESOURCES, type AuthorizationPolicy } from "#lib/kube/objects.ts";
import type { MeshView } from "../kube/mesh-view.ts";
import { hasTargets } from "../kube/policies.ts";
import type { Finding } from "./check.ts";
import type { CheckContext } from "./context.ts";

export async function policyReferenceFindings(
  context: CheckContext,
  view: MeshView,
): Promise<Finding[]> {
  const [accounts, pods] = await Promise.all([
    context.list(RESOURCES.serviceAccounts),
    context.list(RESOURCES.pods),
  ]);
  const known = new Set(accounts.map((a) => `${a.metadata.namespace}/${a.metadata.name}`));
  const found: Finding[] = [];
  for (const policy of view.policies) {
    const { namespace = "", name } = policy.metadata;
    if (context.namespace !== undefined && namespace !== context.namespace) continue;
    const object = `authorizationpolicy/${namespace}/${name}`;
    const say = (what: string, hint: string): void =>
      void found.push({ text: `AuthorizationPolicy ${namespace}/${name} ${what}`, object, hint });
    for (const wrong of unknownNames(policy, view, known))
      say(`names ${wrong}`, "a source that does not exist matches nobody: check the spelling");
    const labels = policy.spec?.selector?.matchLabels;
    if (labels === undefined || hasTargets(policy) || namespace === view.rootNamespace) continue;
    const matches = pods.some(
      (p) => p.metadata.namespace === namespace && selects(labels, p.metadata.labels),
    );
    if (!matches)
      say(
        `selects no pod with ${Object.entries(labels)
          .map((l) => l.join("="))
          .join(",")}`,
        `ambit get pods -n ${namespace} -o wide, and compare their labels`,
      );
  }
  return found;
}

function unknownNames(
  policy: AuthorizationPolicy,
  view: MeshView,
  accounts: ReadonlySet<string>,
): string[] {
  const found = new Set<string>();
  for (const rule of policy.spec?.rules ?? [])
    for (const { source } of rule.from ?? []) {
      for (const n of source?.namespaces ?? [])
        if (!n.includes("*") && !view.namespaces.has(n)) found.add(`namespace ${n}`);
      for (const a of source?.serviceAccounts ?? []) {
        const full = a.includes("/") ? a : `${policy.metadata.namespace}/${a}`;
        if (!full.includes("*") && !accounts.has(full)) found.add(`service account ${full}`);
      }
      for (const p of source?.principals ?? []) {
        const [, domain, ns, account] = /^([^*/]+)\/ns\/([^*/]+)\/sa\/([^*/]+)$/.exec(p) ?? [];
        if (domain === undefined) continue;
        if (domain !== view.trustDomain && domain !== "cluster.local")
          found.add(`trust domain ${domain}`);
        else if (!accounts.has(`${ns}/${account}`)) found.add(`service account ${ns}/${account}`);
      }
    }
  return [...found];
}

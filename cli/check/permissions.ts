// C01: the verbs an installation uses, asked of the API server one by one.
import type { Finding } from "./check.ts";
import type { CheckContext } from "./context.ts";

type Needed = readonly [group: string, resource: string, scope: "cluster" | "namespaced"];

const NEEDED: readonly Needed[] = [
  ["", "namespaces", "cluster"],
  ["apiextensions.k8s.io", "customresourcedefinitions", "cluster"],
  ["rbac.authorization.k8s.io", "clusterroles", "cluster"],
  ["rbac.authorization.k8s.io", "clusterrolebindings", "cluster"],
  ["rbac.authorization.k8s.io", "roles", "namespaced"],
  ["rbac.authorization.k8s.io", "rolebindings", "namespaced"],
  ["", "serviceaccounts", "namespaced"],
  ["", "configmaps", "namespaced"],
  ["", "services", "namespaced"],
  ["apps", "deployments", "namespaced"],
  ["apps", "daemonsets", "namespaced"],
  ["networking.k8s.io", "networkpolicies", "namespaced"],
  ["policy", "poddisruptionbudgets", "namespaced"],
  ["autoscaling", "horizontalpodautoscalers", "namespaced"],
];
/** What server-side apply of an object that may or may not be there asks for. */
const VERBS = ["get", "create", "patch"] as const;

export async function missingPermissions({ kube, signal }: CheckContext): Promise<Finding[]> {
  const { selfSubjectAccess } = await import("#lib/kube/api-server/access-review.ts");
  const asked = await Promise.all(
    NEEDED.map(async ([group, resource, scope]) => {
      const namespace = scope === "namespaced" ? { namespace: kube.meshNamespace } : {};
      const missing: string[] = [];
      for (const verb of VERBS) {
        const access = { verb, group, resource, ...namespace };
        if (!(await selfSubjectAccess(kube.server, access, signal)).allowed) missing.push(verb);
      }
      return { name: `${resource}${group === "" ? "" : `.${group}`}`, missing };
    }),
  );
  return asked
    .filter((a) => a.missing.length > 0)
    .map((a) => ({
      text: `may not ${a.missing.join(", ")} ${a.name}`,
      object: a.name,
      hint: "install as a cluster administrator: --context, --as, --as-group",
    }));
}

// A token of a service account by TokenRequest (authentication.k8s.io/v1), bound to this node rather than
// to a pod, so that it holds while no agent runs here.
import type { ApiServer } from "#lib/kube/api-server/api-server.ts";
import { KubeError } from "#lib/kube/errors.ts";
import type { MintedToken, MintToken } from "../install/plugin-token.ts";

const LIFETIME_SECONDS = 86_400;
const DEADLINE_MS = 5_000;

export function tokenMint(apiServer: ApiServer, nodeName: string): MintToken {
  return async (account) => {
    const node = { apiVersion: "v1", kind: "Node", name: nodeName };
    try {
      return await request(apiServer, account, { boundObjectRef: node });
    } catch (error) {
      // binding to nodes came with Kubernetes 1.31
      if (error instanceof KubeError && error.code === "INVALID")
        return await request(apiServer, account, {});
      throw error;
    }
  };
}

async function request(
  apiServer: ApiServer,
  { namespace, name }: { readonly namespace: string; readonly name: string },
  spec: object,
): Promise<MintedToken> {
  const answer = (await apiServer.request({
    method: "POST",
    path: `/api/v1/namespaces/${encodeURIComponent(namespace)}/serviceaccounts/${encodeURIComponent(name)}/token`,
    body: {
      apiVersion: "authentication.k8s.io/v1",
      kind: "TokenRequest",
      spec: { expirationSeconds: LIFETIME_SECONDS, ...spec },
    },
    isRepeatable: true,
    deadlineMs: DEADLINE_MS, // the installation waits for it
    subject: {
      verb: "create",
      kind: "TokenRequest",
      group: "",
      resource: "serviceaccounts/token",
      namespace,
      name,
    },
  })) as { readonly status?: { readonly token?: unknown; readonly expirationTimestamp?: unknown } };
  const { token, expirationTimestamp } = answer.status ?? {};
  const expiresMs = Date.parse(String(expirationTimestamp));
  if (typeof token !== "string" || token === "" || Number.isNaN(expiresMs))
    throw new KubeError("UNAVAILABLE", `The token request of ${namespace}/${name} came back empty`);
  return { token, expiresMs };
}

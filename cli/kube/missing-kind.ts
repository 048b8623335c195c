// Where a kind comes from that the API server does not serve: its project's definitions, ours, or somebody else's.

const GATEWAY_API_VERSION = "v1.6.0";
const GATEWAY_API_GROUP = "gateway.networking.k8s.io";

export const APPLY_GATEWAY_API = `kubectl apply --server-side -f https://github.com/kubernetes-sigs/gateway-api/releases/download/${GATEWAY_API_VERSION}/standard-install.yaml`;

/** @param group  of the kind; `null` when it is not known */
export function missingKindHint(group: string | null): string {
  return group === GATEWAY_API_GROUP
    ? `the Gateway API is missing: ${APPLY_GATEWAY_API}`
    : "its CustomResourceDefinition is missing; the mesh's own come with: ambit install";
}

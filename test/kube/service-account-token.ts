// Tokens of service accounts as a kubelet gets them: authentication.k8s.io/v1 TokenRequest.
import { LabError } from "../../lab/errors.ts";
import type { ApiRequester } from "./api-request.ts";

export interface ServiceAccountTokenOptions {
  readonly namespace: string;
  readonly name: string;
  /** The API server's own audience when absent. */
  readonly audiences?: readonly string[];
  /** Binds the token to a pod of that name, which must exist and run as this account. */
  readonly pod?: string | { readonly name: string; readonly uid?: string };
  /** At least 600. */
  readonly expirationSeconds?: number;
}

/** Namespace and account are made where missing. @throws {LabError} `COMMAND` with what the server says */
export async function requestToken(
  api: ApiRequester,
  options: ServiceAccountTokenOptions,
): Promise<string> {
  const { namespace, name, audiences = [], pod, expirationSeconds } = options;
  const accounts = `/api/v1/namespaces/${namespace}/serviceaccounts`;
  await ensure(api, "/api/v1/namespaces", namespace);
  await ensure(api, accounts, name);
  const bound = typeof pod === "string" ? { name: pod } : pod;
  const request = {
    apiVersion: "authentication.k8s.io/v1",
    kind: "TokenRequest",
    spec: {
      audiences,
      ...(expirationSeconds === undefined ? {} : { expirationSeconds }),
      ...(bound === undefined
        ? {}
        : { boundObjectRef: { apiVersion: "v1", kind: "Pod", ...bound } }),
    },
  };
  const { status, text } = await api.send(`${accounts}/${name}/token`, {
    method: "POST",
    body: JSON.stringify(request),
  });
  if (status !== 201) throw new LabError("COMMAND", `TokenRequest: ${status} ${text}`);
  return (JSON.parse(text) as { status: { token: string } }).status.token;
}

async function ensure(api: ApiRequester, collection: string, name: string): Promise<void> {
  const body = JSON.stringify({ metadata: { name } });
  const { status, text } = await api.send(collection, { method: "POST", body });
  if (status !== 201 && status !== 409)
    throw new LabError("COMMAND", `Cannot create ${name} in ${collection}: ${status} ${text}`);
}

// authorization.k8s.io SelfSubjectAccessReview: may we do this?
import { isJsonObject, textOf } from "../json.ts";
import type { ApiServer } from "./api-server.ts";

export interface Access {
  readonly verb: string;
  readonly group: string;
  /** The plural. */
  readonly resource: string;
  readonly subresource?: string;
  /** Absent: all namespaces. */
  readonly namespace?: string;
  readonly name?: string;
}

/** @throws {KubeError} when the server cannot be asked; a refusal is a result */
export async function selfSubjectAccess(
  apiServer: ApiServer,
  access: Access,
  signal?: AbortSignal,
): Promise<{ readonly allowed: boolean; readonly reason: string }> {
  const answer = await apiServer.request({
    method: "POST",
    path: "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    body: {
      apiVersion: "authorization.k8s.io/v1",
      kind: "SelfSubjectAccessReview",
      spec: { resourceAttributes: access },
    },
    isRepeatable: true,
    subject: {
      verb: "create",
      kind: "SelfSubjectAccessReview",
      group: "authorization.k8s.io",
      resource: "selfsubjectaccessreviews",
      namespace: null,
      name: null,
    },
    ...(signal === undefined ? {} : { signal }),
  });
  const status = isJsonObject(answer) && isJsonObject(answer.status) ? answer.status : {};
  return { allowed: status.allowed === true, reason: textOf(status.reason) };
}

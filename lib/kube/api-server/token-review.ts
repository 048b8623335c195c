// authentication.k8s.io TokenReview: whose token is this, and is it meant for us?
import { KubeError } from "../errors.ts";
import { isJsonObject, type Json, textOf } from "../json.ts";
import type { ApiServer } from "./api-server.ts";

export type TokenReviewResult =
  | { readonly authenticated: false; readonly error: string }
  | {
      readonly authenticated: true;
      readonly username: string;
      readonly uid: string;
      readonly groups: readonly string[];
      readonly extra: ReadonlyMap<string, readonly string[]>;
    };

const PATH = "/apis/authentication.k8s.io/v1/tokenreviews";

/**
 * A token is only as good as its audience: the server must say that it is for one of `audiences`.
 * @throws {KubeError} when the server cannot be asked; a refused token is a result
 */
export async function reviewToken(
  apiServer: ApiServer,
  token: string,
  audiences: readonly string[],
  signal?: AbortSignal,
): Promise<TokenReviewResult> {
  const answer = await apiServer.request({
    method: "POST",
    path: PATH,
    body: {
      apiVersion: "authentication.k8s.io/v1",
      kind: "TokenReview",
      spec: { token, audiences },
    },
    isRepeatable: true,
    subject: {
      verb: "create",
      kind: "TokenReview",
      group: "authentication.k8s.io",
      resource: "tokenreviews",
      namespace: null,
      name: null,
    },
    ...(signal === undefined ? {} : { signal }),
  });
  const status = isJsonObject(answer) ? answer.status : undefined;
  if (!isJsonObject(status))
    throw new KubeError("UNAVAILABLE", "The TokenReview came back without a status");
  if (status.authenticated !== true)
    return { authenticated: false, error: textOf(status.error) || "the token is not accepted" };
  const granted = texts(status.audiences);
  // A server that knows no audiences answers without them (TokenReviewStatus): that proves nothing.
  if (audiences.length > 0 && !audiences.some((audience) => granted.includes(audience)))
    return {
      authenticated: false,
      error: `the token is for ${JSON.stringify(granted)}, wanted ${JSON.stringify(audiences)}`,
    };
  const user = isJsonObject(status.user) ? status.user : {};
  const username = textOf(user.username);
  if (username === "") return { authenticated: false, error: "the token names no user" };
  const extra = new Map<string, readonly string[]>();
  for (const [key, value] of Object.entries(isJsonObject(user.extra) ? user.extra : {}))
    extra.set(key, texts(value));
  return {
    authenticated: true,
    username,
    uid: textOf(user.uid),
    groups: texts(user.groups),
    extra,
  };
}

function texts(value: Json | undefined): readonly string[] {
  return Array.isArray(value) ? value.filter((entry) => typeof entry === "string") : [];
}

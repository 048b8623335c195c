// A kind that is not served: the hint says where its definition comes from.
import assert from "node:assert/strict";
import { test } from "node:test";
import { refusalError } from "#lib/kube/api-server/status-error.ts";
import { fromKubeError } from "./kube-failure.ts";

const hintsFor = (group: string, resource: string): string => {
  const of = { verb: "list", kind: "X", group, resource, namespace: null, name: null };
  const error = fromKubeError(refusalError(of, { status: 404, body: "404 page not found\n" }));
  assert.equal(error.exitCode, 4);
  return error.hints.join("\n");
};

test("kinds of the Gateway API come from its project, the mesh's own from ambit install", () => {
  const gateway = hintsFor("gateway.networking.k8s.io", "gateways");
  assert.match(gateway, /kubectl apply --server-side -f https:.*standard-install.yaml/);
  assert.doesNotMatch(gateway, /ambit install/);
  assert.match(hintsFor("security.istio.io", "peerauthentications"), /come with: ambit install/);
});

// What `ambit` says when the cluster cannot be reached, does not know the user, or refuses: exit 6 and the fix.
import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ControlPlane } from "../control-plane.ts";
import { freePorts } from "../ports.ts";
import { cliFor, type Cli } from "./cli-run.ts";

let api: ControlPlane;
let cli: Cli;
before(async () => {
  api = await ControlPlane.start({ crds: ["gateway-api"] });
  cli = cliFor(api);
});
after(() => api[Symbol.asyncDispose]());

test("a user without permissions: the verb, the resource, and what role is missing", async () => {
  const kubeconfig = await api.userKubeconfig({ user: "nobody" });
  for (const [line, missing] of [
    ["get pods", /verb list, resource pods/],
    ["enroll ns/default", /verb get, resource namespaces/],
    ["waypoint list", /verb list, resource (gateways|pods)/],
    // these ask for several kinds at once: the first answer counts
    ["namespace list", /verb list, resource \w+/],
    ["status", /verb (get|list), resource \w+/],
    ["uninstall -y", /verb (get|list), resource \w+/],
  ] as const) {
    const ran = await cli(line, { kubeconfig });
    assert.equal(ran.code, 6, `${line}: ${ran.stderr}`);
    assert.match(ran.stderr, /User "nobody" cannot/, line);
    assert.match(ran.stderr, missing, line);
    assert.doesNotMatch(ran.stderr, /\n +at /);
  }
  const pre = await cli("check --pre --only C01", { kubeconfig });
  assert.equal(pre.code, 3);
  assert.match(pre.stdout, /✖ C01[^]*may not get, create, patch customresourcedefinitions/);
});

test("--as acts as another user, and its permissions count", async () => {
  const ran = await cli("get pods --as nobody --as-group system:masters");
  assert.equal(ran.code, 0, ran.stderr);
  assert.equal((await cli("get pods --as nobody")).code, 6);
  assert.equal((await cli("get pods --as-group x")).code, 2);
});

test("a context that is not there: those that are", async () => {
  const ran = await cli("get pods --context nope");
  assert.equal(ran.code, 6);
  assert.match(ran.stderr, /no context "nope"; there are: ambit-test/);
});

test("a server that does not answer, in JSON too", async () => {
  const [port = 0] = await freePorts(1);
  const kubeconfig = edited("gone", (text) =>
    text.replaceAll(/(https:\/\/[^:]+):\d+/g, `$1:${port}`),
  );
  const ran = await cli("get ns", { kubeconfig });
  assert.equal(ran.code, 6, ran.stderr);
  assert.match(ran.stderr, /error: .*ECONNREFUSED[^]*--context, --kubeconfig/);
  const document = JSON.parse((await cli("status -o json", { kubeconfig })).stdout) as Failure;
  assert.deepEqual([document.kind, document.code, document.exitCode], ["Error", "UNREACHABLE", 6]);
});

interface Failure {
  readonly kind: string;
  readonly code: string;
  readonly exitCode: number;
}

test("credentials that are not accepted any more", async () => {
  const kubeconfig = edited("expired", (text) =>
    text
      .replaceAll(/"?(client-certificate-data|client-key-data)"?: *"?[\w+/=]+"?,?/g, "")
      .replaceAll(/"?token"?: *"?[\w.-]+"?/g, '"token": "not-any-more"'),
  );
  const ran = await cli("get ns", { kubeconfig });
  assert.equal(ran.code, 6, ran.stderr);
  assert.match(ran.stderr, /Unauthorized|credentials/);
  assert.match(ran.stderr, /log in/);
});

test("-v says which cluster is meant", async () => {
  assert.match(
    (await cli("get ns -v")).stderr,
    /^using the cluster of context ambit-test \(https:/,
  );
});

test("no mesh in the cluster: exit 4 and how to get one", async () => {
  const ran = await cli("status");
  assert.equal(ran.code, 4);
  assert.match(ran.stderr, /No mesh in namespace istio-system[^]*ambit install/);
  const zc = await cli("zc workload");
  assert.deepEqual([zc.code, /ambit install/.test(zc.stderr)], [4, true]);
});

function edited(name: string, change: (text: string) => string): string {
  const file = join(api.dir, `${name}.kubeconfig`);
  writeFileSync(file, change(readFileSync(api.kubeconfig, "utf8")));
  return file;
}

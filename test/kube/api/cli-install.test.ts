// `ambit install`, `manifest` and `uninstall` with the real manifests on a real API server, without nodes.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { parseAllDocuments } from "yaml";
import { renderKustomization } from "../../../cli/manifest/render.ts";
import { ControlPlane } from "../control-plane.ts";
import { cliFor, json, type Cli } from "./cli-run.ts";

const MANIFESTS = new URL("../../../manifests", import.meta.url).pathname;

let api: ControlPlane;
let cli: Cli;
before(async () => {
  api = await ControlPlane.start({ crds: ["gateway-api"] });
  cli = cliFor(api);
});
after(() => api[Symbol.asyncDispose]());

for (const profile of ["base", "overlays/kind", "overlays/production"])
  test(`our renderer makes of ${profile} what kubectl kustomize makes`, async () => {
    const dir = `${MANIFESTS}/${profile}`;
    const { stdout } = await api.kubectl(["kustomize", dir]);
    const wanted = parseAllDocuments(stdout).map((d) => d.toJS() as Named);
    const made = (await renderKustomization(dir)) as unknown as Named[];
    assert.deepEqual(made.toSorted(byId), wanted.toSorted(byId));
  });

interface Named {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
}

function byId(a: Named, b: Named): number {
  const id = ({ kind, metadata: m }: Named): string => `${kind} ${m.namespace ?? ""} ${m.name}`;
  return id(a) < id(b) ? -1 : 1;
}

test("check --pre finds nothing in a cluster that is fit, and names what one lacks", async () => {
  const ran = await cli("check --pre");
  assert.equal(ran.code, 0, ran.stdout + ran.stderr);
  assert.doesNotMatch(ran.stdout, /[✖‼]/);
  await api.kubectl(["delete", "crd", "httproutes.gateway.networking.k8s.io"]);
  const lacking = await cli("check --pre --only C03");
  assert.equal(lacking.code, 3);
  assert.match(
    lacking.stdout,
    /✖ C03 [^]*httproutes[^]*hint: kubectl apply --server-side -f https/,
  );
  const refused = await cli("install -y --no-wait");
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /is not fit for the mesh: C03/);
  await api.applyCrds("gateway-api");
});

for (const profile of ["base", "kind", "production"])
  test(`install --dry-run server of ${profile} passes and leaves nothing`, async () => {
    const ran = await cli(`install --profile ${profile} --dry-run server`);
    assert.equal(ran.code, 0, ran.stderr);
    assert.match(ran.stdout, /^STAGE +CREATED.*\nCRDs +\d+ +0 +0 +- .*\nistiod +\d+ /);
    const left = await api.kubectl(["get", "ns", "istio-system"], { allowFailure: true });
    assert.notEqual(left.code, 0);
  });

test("install, again, diff, and uninstall", { timeout: 120_000 }, async () => {
  interface Result {
    readonly items: readonly { readonly stage: string; readonly objects: { change: string }[] }[];
  }
  const changes = ({ items }: Result): string[] => [
    ...new Set(items.flatMap((i) => i.objects.map((o) => o.change))),
  ];
  const install = "install --profile kind --set image=registry.example.org/ambit:7 -y --no-wait";
  const first = await json<Result>(cli, install);
  assert.deepEqual(
    first.items.map((i) => i.stage),
    ["CRDs", "istiod", "cni", "ztunnel"],
  );
  assert.deepEqual(changes(first), ["created"]);
  assert.deepEqual(changes(await json<Result>(cli, install)), ["unchanged"]);
  const images = await api.kubectl([
    ...["get", "deploy,ds", "-n", "istio-system", "-o"],
    "jsonpath={..containers[*].image}",
  ]);
  assert.equal(new Set(images.stdout.split(" ")).size, 1, images.stdout);

  const same = await cli("manifest diff --profile kind --set image=registry.example.org/ambit:7");
  assert.deepEqual([same.code, same.stdout], [0, ""]);
  const differs = await cli(
    "manifest diff --profile kind --set image=registry.example.org/ambit:8",
  );
  assert.equal(differs.code, 1);
  assert.match(differs.stdout, /-.*image: registry.example.org\/ambit:7\n\+.*ambit:8/);

  const status = await cli("status");
  assert.equal(status.code, 3);
  assert.match(status.stdout, /COMPONENT +DESIRED +READY +VERSION[^]*istiod +1 +0 +7 /);

  await leaveRuntimeObjects();
  await api.kubectl(["label", "ns", "default", "istio.io/dataplane-mode=ambient"]);
  const refused = await cli("uninstall -y");
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /The mesh is in use: namespaces default/);
  const planned = await cli("uninstall --dry-run --purge");
  assert.match(planned.stdout, /ztunnel .*\n.*istio-cni-node .*\n.*deployment.apps\/istiod /);
  // where the namespace stays, for a CA of the user's, no lock may be left in it
  assert.match(planned.stdout, /^configmap\/istio-ip-autoallocate -n istio-system /m);
  await api.controllerManager(["namespace-controller"]); // ends namespaces, which is waited for
  const gone = await cli("uninstall --unenroll --purge -y");
  assert.equal(gone.code, 0, gone.stderr);
  const { stdout } = await api.kubectl([
    ...["get", "-A", "-o", "name", "-l", "app.kubernetes.io/part-of=ambit"],
    "crd,clusterroles,clusterrolebindings,deploy,ds,svc,cm,sa,roles,rolebindings",
  ]);
  assert.equal(stdout, "");
  const rest = await api.kubectl(["get", "-A", "-o", "name", "gatewayclass,leases,cm,secret"]);
  assert.doesNotMatch(rest.stdout, /istio/);
  const labels = await api.kubectl(["get", "ns", "default", "-o", "jsonpath={.metadata.labels}"]);
  assert.doesNotMatch(labels.stdout, /istio/);
  const again = await cli("uninstall --purge -y");
  assert.equal(again.code, 0, again.stderr);
});

/** What a running istiod would have written. */
async function leaveRuntimeObjects(): Promise<void> {
  const objects = [
    {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: {
        name: "istio-ca-root-cert",
        namespace: "default",
        labels: { "istio.io/config": "true" },
      },
    },
    {
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: "istio-ca-secret", namespace: "istio-system" },
    },
    {
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      metadata: { name: "istio-status-leader", namespace: "istio-system" },
    },
    {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: {
        name: "istio-ip-autoallocate",
        namespace: "istio-system",
        annotations: { "control-plane.alpha.kubernetes.io/leader": "{}" },
      },
    },
    {
      apiVersion: "gateway.networking.k8s.io/v1",
      kind: "GatewayClass",
      metadata: { name: "istio-waypoint" },
      spec: { controllerName: "istio.io/mesh-controller" },
    },
  ];
  const stdin = JSON.stringify({ apiVersion: "v1", kind: "List", items: objects });
  await api.kubectl(["create", "-f", "-"], { stdin });
}

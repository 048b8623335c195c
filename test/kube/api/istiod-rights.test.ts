// What istiod is granted by the manifests, against what it asks of an API server: it must be enough, and
// nothing may be left over. The audit log tells.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { parseAllDocuments } from "yaml";
import { parseCertificate } from "#lib/pki/certificate.ts";
import { issueCa } from "#lib/pki/issue.ts";
import { parsePrivateKey } from "#lib/pki/keys.ts";
import { testCa } from "#lib/pki/test-ca.ts";
import { ADDRESS_TYPE } from "#lib/xds/type-urls.ts";
import { ControlPlane } from "../control-plane.ts";
import {
  account,
  IstiodRun,
  namespaced,
  policy,
  put,
  runningPod,
  SYSTEM,
  until,
} from "./istiod-run.ts";

const RBAC = join(import.meta.dirname, "../../../manifests/base/istiod/rbac.yaml");
const USER = `system:serviceaccount:${SYSTEM}:istiod`;

interface Rule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly verbs: readonly string[];
  readonly resourceNames?: readonly string[];
}
interface Manifest {
  readonly kind: string;
  readonly rules?: readonly Rule[];
}

let api: ControlPlane;
let kubeconfig: string;

before(async () => {
  api = await ControlPlane.start({ crds: ["ambit"], auditLog: true });
  await put(api, namespaced(SYSTEM), namespaced("shop"));
  const rbac = readFileSync(RBAC, "utf8");
  assert.equal((await api.kubectl(["apply", "-f", "-"], { stdin: rbac })).code, 0);
  await put(api, account(SYSTEM, "ztunnel"), account("shop", "default"));
  // Waypoints run from what this one runs from.
  await put(api, runningPod(SYSTEM, "istiod-0", { account: "istiod", ip: "10.244.1.2" }));
  kubeconfig = await api.userKubeconfig({ serviceAccount: { namespace: SYSTEM, name: "istiod" } });
});
after(() => api[Symbol.asyncDispose]());

/** `group/resource[/subresource] verb`. */
function granted(): Set<string> {
  const manifests = parseAllDocuments(readFileSync(RBAC, "utf8")).map((d) => d.toJS() as Manifest);
  const rules = manifests.flatMap((manifest) => manifest.rules ?? []);
  return new Set(
    rules.flatMap(({ apiGroups, resources, verbs }) =>
      apiGroups.flatMap((group) =>
        resources.flatMap((resource) => verbs.map((verb) => `${group}/${resource} ${verb}`)),
      ),
    ),
  );
}

async function asked(): Promise<{ used: Set<string>; refused: Set<string> }> {
  const used = new Set<string>();
  const refused = new Set<string>();
  for (const { user, verb, objectRef, responseStatus } of await api.auditEvents()) {
    if (user.username !== USER || objectRef?.resource === undefined) continue;
    const { apiGroup = "", resource, subresource } = objectRef;
    const what = subresource === undefined ? resource : `${resource}/${subresource}`;
    const { code = 0 } = responseStatus ?? {};
    (code === 403 ? refused : used).add(`${apiGroup}/${what} ${verb}`);
    // An apply that made its object took both rights; the log has one.
    if (verb === "patch" && code === 201) used.add(`${apiGroup}/${what} create`);
  }
  return { used, refused };
}

const istio = (kind: string, name: string, spec: object): object => ({
  apiVersion: "networking.istio.io/v1",
  kind,
  metadata: { name, namespace: "shop", labels: { "istio.io/use-waypoint": "wp" } },
  spec,
});
const core = (kind: string, namespace: string, name: string, more: object): object => ({
  apiVersion: "v1",
  kind,
  metadata: { name, namespace },
  ...more,
});

async function firstCondition(what: string): Promise<string> {
  const jsonpath = "jsonpath={.status.conditions[0].type}";
  return (await api.kubectl(["get", ...what.split(" "), "-n", "shop", "-o", jsonpath])).stdout;
}

test("istiod does all its work with the rights of the manifests", { timeout: 60_000 }, async () => {
  {
    await using istiod = await IstiodRun.start(api, { kubeconfig });
    await istiod.xds(ADDRESS_TYPE);
    await api.applyCrds("gateway-api");
    const overlays = {
      deployment: "spec: {replicas: 1}",
      horizontalPodAutoscaler: "spec: {maxReplicas: 2}",
      podDisruptionBudget: "spec: {minAvailable: 1}",
    };
    await put(
      api,
      runningPod("shop", "web-1"),
      core("ConfigMap", "shop", "overlays", { data: overlays }),
      policy("shop", "p", { rules: [{}] }),
      istio("ServiceEntry", "e", { hosts: ["e.example"], resolution: "DNS" }),
      istio("WorkloadEntry", "w", { address: "10.9.9.9" }),
      {
        ...core("Service", "shop", "web", { spec: { ports: [{ port: 80 }] } }),
        metadata: { name: "web", namespace: "shop", labels: { "istio.io/use-waypoint": "wp" } },
      },
      {
        apiVersion: "gateway.networking.k8s.io/v1",
        kind: "Gateway",
        metadata: { name: "wp", namespace: "shop" },
        spec: {
          gatewayClassName: "istio-waypoint",
          listeners: [{ name: "mesh", port: 15_008, protocol: "HBONE" }],
          infrastructure: { parametersRef: { group: "", kind: "ConfigMap", name: "overlays" } },
        },
      },
    );
    for (const what of [
      "service web",
      "serviceentry e",
      "workloadentry w",
      "authorizationpolicy p",
      "gateway wp",
    ])
      await until(what, async () => (await firstCondition(what)) !== "");
    const addresses = "get serviceentry e -n shop -o jsonpath={.status.addresses}".split(" ");
    await until("addresses", async () => (await api.kubectl(addresses)).stdout !== "");
    const budget = "get pdb,hpa,deploy wp -n shop".split(" ");
    await until("the waypoint", async () => (await api.kubectl(budget)).code === 0);
    await breakPeerAuthentication();
    await api.kubectl(
      "patch cm istio-ca-root-cert -n shop --type=merge -p".split(" ").concat('{"data":null}'),
    );
    await until(
      "the root",
      async () =>
        (await api.kubectl("get cm istio-ca-root-cert -n shop -o jsonpath={.data}".split(" ")))
          .stdout !== "",
    );
  }
  await ageRoot();
  await (await IstiodRun.start(api, { kubeconfig }))[Symbol.asyncDispose]();
  await plugIn();
  await using istiod = await IstiodRun.start(api, { kubeconfig });
  await until("a watch of cacerts", async () => (await asked()).used.has("/secrets watch"));
  void istiod;
  const { used, refused } = await asked();
  const rights = granted();
  assert.deepEqual([...refused].sort(), [], "asked for without a right");
  assert.deepEqual(
    [...rights].filter((right) => !used.has(right)).sort(),
    [],
    "granted for nothing",
  );
});

/** As under a definition without a schema. */
async function breakPeerAuthentication(): Promise<void> {
  const crd = "peerauthentications.security.istio.io";
  const { stdout } = await api.kubectl(["get", "crd", crd, "-o", "json"]);
  const found = JSON.parse(stdout) as { spec: { versions: { schema: object }[] } };
  for (const version of found.spec.versions)
    version.schema = {
      openAPIV3Schema: { type: "object", "x-kubernetes-preserve-unknown-fields": true },
    };
  const replaced = await api.kubectl(["replace", "-f", "-"], { stdin: JSON.stringify(found) });
  assert.equal(replaced.code, 0, replaced.stderr);
  const broken = JSON.stringify({
    apiVersion: "security.istio.io/v1",
    kind: "PeerAuthentication",
    metadata: { name: "broken", namespace: "shop" },
    spec: { mtls: "STRICT" },
  });
  await until(
    "the new definition",
    async () => (await api.kubectl(["apply", "-f", "-"], { stdin: broken })).code === 0,
  );
  const what = "peerauthentication broken";
  await until("its status", async () => (await firstCondition(what)) === "Accepted");
  await api.kubectl(["delete", "peerauthentication", "broken", "-n", "shop"]);
}

/** Leaves the root little of its life. */
async function ageRoot(): Promise<void> {
  const get = `get secret istio-ca-secret -n ${SYSTEM} -o json`.split(" ");
  const { data } = JSON.parse((await api.kubectl(get)).stdout) as { data: Record<string, string> };
  const text = (key: string): string => Buffer.from(data[key] ?? "", "base64").toString();
  const now = Date.now();
  const { pem } = await issueCa(null, {
    organization: "cluster.local",
    keys: {
      privateKey: parsePrivateKey(text("ca-key.pem")),
      publicKey: parseCertificate(text("ca-cert.pem")).x509.publicKey,
    },
    notBeforeMs: now - 100_000_000,
    notAfterMs: now + 1_000_000,
  });
  const old = Buffer.from(pem).toString("base64");
  const patch = JSON.stringify({ data: { "ca-cert.pem": old, "root-cert.pem": old } });
  const change = `patch secret istio-ca-secret -n ${SYSTEM} --type=merge -p`.split(" ");
  assert.equal((await api.kubectl([...change, patch])).code, 0);
}

async function plugIn(): Promise<void> {
  const { signer, rootPem } = await testCa(Date.now());
  const key = signer.key.export({ type: "pkcs8", format: "pem" }).toString();
  const { pem } = signer.certificate;
  const stringData = {
    "ca-cert.pem": pem,
    "ca-key.pem": key,
    "cert-chain.pem": pem,
    "root-cert.pem": rootPem,
  };
  await put(api, core("Secret", SYSTEM, "cacerts", { stringData }));
}

// `explain connection --what-if`: manifests in a copy, the lab's answer as tables, the difference.
import assert from "node:assert/strict";
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import type { RequestListener } from "node:http";
import { join } from "node:path";
import { test } from "node:test";
import { ipToBytes, parseIp } from "#lib/net/ip.ts";
import { Action, Authorization, Match, Scope } from "#lib/wire/gen/authorization.gen.ts";
import { Address, PortList, TunnelProtocol } from "#lib/wire/gen/workload.gen.ts";
import { testLab, type TestLab } from "../../testdata/test-lab.ts";

const DUMP = readFileSync(join(import.meta.dirname, "../../testdata/config-dump.json"), "utf8");
const ASK = "explain connection client.shop svc/server --what-if";
const POLICY = `apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: closed, namespace: shop}
spec: {action: ALLOW}
`;
const PORTS = PortList.create({ ports: [{ servicePort: 80, targetPort: 8080 }] });
const address = (text: string): Buffer => Buffer.from(ipToBytes(parseIp(text)));

function workload(name: string, ip: string, policies: string[]): Address {
  return Address.create({
    type: {
      $case: "workload",
      value: {
        uid: `Kubernetes//Pod/shop/${name}`,
        name,
        namespace: "shop",
        addresses: [address(ip)],
        tunnelProtocol: TunnelProtocol.HBONE,
        serviceAccount: name,
        node: "b",
        authorizationPolicies: policies,
        services:
          name === "client" ? new Map() : new Map([["shop/server.shop.svc.cluster.local", PORTS]]),
      },
    },
  });
}

/** What istiod would send with POLICY: the server under a policy that allows nobody. */
function preview(): unknown {
  const service = Address.create({
    type: {
      $case: "service",
      value: {
        name: "server",
        namespace: "shop",
        hostname: "server.shop.svc.cluster.local",
        addresses: [{ address: address("10.96.0.10") }],
        ports: [{ servicePort: 80, targetPort: 8080 }],
      },
    },
  });
  const policy = Authorization.create({
    name: "closed",
    namespace: "shop",
    scope: Scope.WORKLOAD_SELECTOR,
    action: Action.ALLOW,
    groups: [{ rules: [{ matches: [Match.create({ destinationPorts: [1] })] }] }],
  });
  const encoded = (name: string, bytes: Uint8Array): unknown => ({
    name,
    bytes: Buffer.from(bytes).toString("base64"),
  });
  return {
    addresses: [
      encoded("c", Address.encode(workload("client", "10.244.1.2", [])).finish()),
      encoded("s", Address.encode(workload("server-v1", "10.244.1.3", ["shop/closed"])).finish()),
      encoded("x", Address.encode(service).finish()),
    ],
    policies: [encoded("shop/closed", Authorization.encode(policy).finish())],
  };
}

/** Answers for ztunnels, and hands previews to `onPreview`. */
function lab(onPreview: (name: string) => { status?: number; body: unknown }): Promise<TestLab> {
  const answer: RequestListener = ({ method, url = "" }, response) => {
    if (method !== "POST") return void response.end(DUMP);
    const { status = 200, body } = onPreview(url.replace("/previews/", ""));
    response.statusCode = status;
    response.end(JSON.stringify(body));
  };
  return testLab(["a"], answer);
}

test("what-if answers with the manifests applied in a copy, and shows what they change", async () => {
  let seen = "";
  await using mesh = await lab((name) => {
    seen = readFileSync(
      join(mesh.dir, name, "manifests/authorizationpolicies/shop/closed.yaml"),
      "utf8",
    );
    return { body: preview() };
  });
  const ran = await mesh.run(`${ASK} -`, { stdin: POLICY });
  assert.equal(ran.code, 3, ran.stdout + ran.stderr);
  assert.match(seen, /name: closed/);
  assert.match(
    ran.stdout,
    /^ALLOWED now, DENIED at D4 \(destination ztunnel on b\) with the change\n/,
  );
  assert.match(ran.stdout, /\nwith {3}authorizationpolicy\.security\.istio\.io\/closed created\n/);
  assert.match(ran.stdout, /\n- D4 [^\n]*\n\+ D4 ✖ [^\n]*\n- D5 /);
  assert.deepEqual(readdirSync(mesh.manifestDir), [], "the cluster itself is untouched");
  assert.deepEqual(
    readdirSync(mesh.dir).filter((n) => n.startsWith("preview-")),
    [],
    "the copy is gone",
  );
});

test("what-if in JSON is an explanation of then, with the one of now beside it", async () => {
  await using mesh = await lab(() => ({ body: preview() }));
  const ran = await mesh.run(`${ASK} - -o json`, { stdin: POLICY });
  const document = JSON.parse(ran.stdout) as {
    kind: string;
    verdict: string;
    whatIf: { changed: boolean; applied: unknown; now: { verdict: string } };
  };
  assert.deepEqual(
    [document.kind, document.verdict, document.whatIf.now.verdict, document.whatIf.changed],
    ["Explanation", "denied", "allowed", true],
  );
  assert.deepEqual(document.whatIf.applied, [
    { object: "authorizationpolicy.security.istio.io/closed", change: "created" },
  ]);
});

test("what-if takes the CNI agents' part for labels that the manifests change", async () => {
  let pod = "";
  await using mesh = await lab((name) => {
    pod = readFileSync(join(mesh.dir, name, "manifests/all.yaml"), "utf8");
    return { body: preview() };
  });
  writeFileSync(
    join(mesh.manifestDir, "all.yaml"),
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: client, namespace: shop}\nstatus: {phase: Running}\n",
  );
  const stdin =
    "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {istio.io/dataplane-mode: ambient}}\n";
  const ran = await mesh.run(`${ASK} -`, { stdin });
  assert.match(ran.stdout, /\nassume the CNI agents capture shop\/client\n/, ran.stderr);
  assert.match(pod, /ambient\.istio\.io\/redirection: enabled/);
});

test("what-if fails with istiod's words, and says what it cannot read", async () => {
  await using mesh = await lab(() => ({ status: 409, body: { error: "istiod does not start" } }));
  const failed = await mesh.run(`${ASK} -`, { stdin: POLICY });
  assert.deepEqual(
    [failed.code, failed.stderr],
    [1, "error: Cannot preview the mesh: istiod does not start\n"],
  );
  const wrong = await mesh.run(`${ASK} -`, { stdin: POLICY.replace("ALLOW", "PERHAPS") });
  assert.deepEqual([wrong.code, /spec\.action/.test(wrong.stderr)], [1, true], wrong.stderr);
  const dump = await mesh.run(`${ASK} - -f %mesh.json`, { stdin: POLICY });
  assert.equal(dump.code, 2);
  assert.match(dump.stderr, /--what-if needs a running mesh, and -f reads a dump/);
});

test("what-if gives up after --timeout", { timeout: 10_000 }, async () => {
  const answer: RequestListener = ({ method }, response) =>
    void (method === "POST" ? undefined : response.end(DUMP));
  await using mesh = await testLab(["a"], answer);
  const ran = await mesh.run(`${ASK} - --timeout 200ms`, { stdin: POLICY });
  assert.equal(ran.code, 5);
  assert.match(ran.stderr, /No preview of the mesh within 200 ms\n +give it longer with --timeout/);
});

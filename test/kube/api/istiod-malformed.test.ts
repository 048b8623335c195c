// Objects that got past admission though nobody can read them, as where definitions without a schema are
// installed: they are named in log and status, and touch nothing else.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ADDRESS_TYPE, AUTHORIZATION_TYPE } from "#lib/xds/type-urls.ts";
import { ControlPlane } from "../control-plane.ts";
import { account, IstiodRun, namespaced, policy, put, SYSTEM, until } from "./istiod-run.ts";

let api: ControlPlane;
let istiod: IstiodRun;

function definition(group: string, kind: string): object {
  const singular = kind.toLowerCase();
  const plural = singular.replace(/y$/, "ies").replace(/n$/, "ns");
  const schema = { type: "object", "x-kubernetes-preserve-unknown-fields": true };
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${plural}.${group}` },
    spec: {
      group,
      scope: "Namespaced",
      names: { kind, plural, singular },
      versions: [
        {
          name: "v1",
          served: true,
          storage: true,
          subresources: { status: {} },
          schema: { openAPIV3Schema: schema },
        },
      ],
    },
  };
}

before(async () => {
  api = await ControlPlane.start();
  const kinds = ["AuthorizationPolicy", "PeerAuthentication"];
  await put(api, ...kinds.map((kind) => definition("security.istio.io", kind)));
  for (const kind of kinds)
    await api.kubectl(
      `wait --for=condition=Established crd/${kind.toLowerCase().replace(/y$/, "ies").replace(/n$/, "ns")}.security.istio.io`.split(
        " ",
      ),
    );
  await put(api, namespaced(SYSTEM), namespaced("shop"), account(SYSTEM, "ztunnel"));
  await put(api, policy("shop", "good", DENY), policy("shop", "bad", { rules: "all of them" }));
  istiod = await IstiodRun.start(api);
});
after(async () => {
  await istiod?.[Symbol.asyncDispose]();
  await api[Symbol.asyncDispose]();
});

const DENY = { action: "DENY", rules: [{ from: [{ source: { namespaces: ["x"] } }] }] };

/** `type=status/reason message` of each, read as JSON. */
async function conditions(plural: string, name: string): Promise<string[]> {
  const { stdout } = await api.kubectl(["get", plural, name, "-n", "shop", "-o", "json"]);
  const { status } = JSON.parse(stdout) as {
    status?: { conditions?: Record<"type" | "status" | "reason" | "message", string>[] };
  };
  return (status?.conditions ?? []).map((c) => `${c.type}=${c.status}/${c.reason} ${c.message}`);
}

const first = async (name: string, plural = "authorizationpolicies"): Promise<string> =>
  (await conditions(plural, name))[0] ?? "";

test("a malformed policy is named in log and status, and the others work", async () => {
  const held = await istiod.xds(ADDRESS_TYPE, AUTHORIZATION_TYPE);
  await until("the good one", () => held.has("shop/good"));
  assert.ok(!held.has("shop/bad"));
  await until("its status", async () => (await first("bad")) !== "");
  assert.match(
    await first("bad"),
    /^ZtunnelAccepted=False\/Invalid AuthorizationPolicy shop\/bad: spec\.rules: /,
  );
  await until("the other's", async () => (await first("good")).startsWith("ZtunnelAccepted=True"));
  const [line] = istiod.lines("cluster state cannot be read in full");
  assert.match(String(line?.["error"]), /AuthorizationPolicy shop\/bad: spec\.rules/);
});

test("an edit that cannot be read takes nothing away, and a repair takes effect", async () => {
  const held = await istiod.xds(ADDRESS_TYPE, AUTHORIZATION_TYPE);
  await until("the good one", () => held.has("shop/good"));
  const before = held.resources.get("shop/good")?.version;
  const broken = { ...DENY, rules: [{ from: [{ source: { namespaces: "x" } }] }] };
  const replace = async (spec: object): Promise<void> => {
    const stdin = JSON.stringify(policy("shop", "good", spec));
    assert.equal((await api.kubectl(["replace", "-f", "-"], { stdin })).code, 0);
  };
  await replace(broken);
  await until("the fault", async () => (await first("good")).includes("False/Invalid"));
  assert.match(await first("good"), /spec\.rules\[0\]\.from\[0\]\.source\["namespaces"\]/);
  assert.equal(held.resources.get("shop/good")?.version, before);
  await replace({ ...DENY, rules: [{ from: [{ source: { namespaces: ["y"] } }] }] });
  await until("the repair", async () => (await first("good")).includes("True/Accepted"));
  await until("the new rule", () => held.resources.get("shop/good")?.version !== before);
});

test("kinds without conditions of their own are told too, until they can be read", async () => {
  const spec = (mode: unknown): object => ({
    apiVersion: "security.istio.io/v1",
    kind: "PeerAuthentication",
    metadata: { name: "strict", namespace: "shop" },
    spec: { mtls: { mode } },
  });
  await put(api, spec("STRICKT"));
  const shown = (): Promise<string> => first("strict", "peerauthentications");
  await until("the fault", async () => (await shown()).includes("Accepted=False/Invalid"));
  assert.match(await shown(), /spec\.mtls\.mode/);
  await put(api, spec("STRICT"));
  await until("the repair", async () => (await shown()) === "");
  await put(api, spec(7));
  await until("another fault", async () => (await shown()).includes("Accepted=False/Invalid"));
  await api.kubectl(["delete", "peerauthentications", "strict", "-n", "shop"]);
});

// The custom resource definitions on a real API server: what they take and refuse, in each version; and that Istio's
// own take whatever ours do.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { parse } from "yaml";
import { definitionFiles } from "../../../manifests/crds/generate.ts";
import { ApiRequester } from "../api-request.ts";
import { ControlPlane } from "../control-plane.ts";
import { CASES, type Case } from "./manifests-crd-cases.ts";

const CRDS = join(import.meta.dirname, "../../../manifests/crds");

let ours: ControlPlane;
let istios: ControlPlane;

before(async () => {
  const started = await Promise.all([
    ControlPlane.start({ crds: ["ambit"] }),
    ControlPlane.start({ crds: ["istio"] }),
  ]);
  [ours, istios] = started;
});
after(() => Promise.all([ours, istios].map((plane) => plane?.[Symbol.asyncDispose]())));

function requesterOf(plane: ControlPlane): ApiRequester {
  return new ApiRequester(plane.url, readFileSync(plane.caFile, "utf8"), plane.token);
}

async function create(
  plane: ControlPlane,
  resource: string,
  kind: string,
  spec: unknown,
): Promise<{ readonly status: number; readonly message: string }> {
  using requester = requesterOf(plane);
  const [group, version, plural] = resource.split("/");
  const { status, text } = await requester.send(
    `/apis/${group}/${version}/namespaces/default/${plural}?dryRun=All&fieldValidation=Strict`,
    {
      method: "POST",
      body: JSON.stringify({
        apiVersion: `${group}/${version}`,
        kind,
        metadata: { name: "case" },
        spec,
      }),
    },
  );
  const { message = "" } = JSON.parse(text) as { message?: string };
  return { status, message };
}

test("the definitions are what their descriptions make", () => {
  for (const [name, text] of definitionFiles())
    assert.equal(readFileSync(join(CRDS, name), "utf8"), text, `${name}: run generate.ts`);
});

for (const [key, cases] of Object.entries(CASES)) {
  const [resource = "", kind = ""] = key.split(" ");
  describe(kind, () => {
    for (const { name, spec, refusal } of cases)
      test(`${refusal === undefined ? "takes" : "refuses"}: ${name}`, async () => {
        const { status, message } = await create(ours, resource, kind, parse(spec));
        if (refusal === undefined) assert.equal(status, 201, message);
        else {
          assert.equal(status, 422, message);
          assert.match(message, refusal);
        }
      });
    test("Istio's definition takes what ours takes", async () => {
      for (const { name, spec } of cases.filter((c: Case) => c.refusal === undefined)) {
        const { status, message } = await create(istios, resource, kind, parse(spec));
        assert.equal(status, 201, `${name}: ${message}`);
      }
    });
  });
}

test("every version Istio serves of these kinds is served, and the same one is stored", async () => {
  interface List {
    readonly items: readonly {
      readonly metadata: { readonly name: string };
      readonly spec: {
        readonly names: Record<string, unknown>;
        readonly versions: readonly { readonly name: string; readonly storage: boolean }[];
      };
    }[];
  }
  const definitions = async (plane: ControlPlane): Promise<List["items"]> => {
    using requester = requesterOf(plane);
    const { text } = await requester.send(
      "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    );
    return (JSON.parse(text) as List).items;
  };
  const theirs = new Map((await definitions(istios)).map((d) => [d.metadata.name, d.spec]));
  for (const { metadata, spec } of await definitions(ours)) {
    const reference = theirs.get(metadata.name);
    assert.ok(reference, metadata.name);
    const served = (versions: typeof spec.versions): string[] =>
      versions.map((v) => `${v.name} ${v.storage}`).toSorted();
    assert.deepEqual(served(spec.versions), served(reference.versions), metadata.name);
    assert.deepEqual(spec.names, reference.names, metadata.name);
  }
});

test("conditions of several writers stand side by side", async () => {
  const policy = (status: object): string =>
    JSON.stringify({
      apiVersion: "security.istio.io/v1",
      kind: "AuthorizationPolicy",
      metadata: { name: "two-writers", namespace: "default" },
      ...status,
    });
  await ours.kubectl(["apply", "-f", "-"], { stdin: policy({ spec: {} }), allowFailure: false });
  for (const type of ["ZtunnelAccepted", "WaypointAccepted"])
    await ours.kubectl(
      ["apply", "--server-side", "--subresource=status", `--field-manager=${type}`, "-f", "-"],
      {
        stdin: policy({ status: { conditions: [{ type, status: "True", reason: "Accepted" }] } }),
        allowFailure: false,
      },
    );
  const { stdout } = await ours.kubectl(["get", "authorizationpolicies", "two-writers"]);
  assert.match(stdout, /^NAME +ACTION +ZTUNNEL +WAYPOINT +AGE$/m);
  assert.match(stdout, /^two-writers +Accepted +Accepted /m);
});

test("kubectl warns of a kind that is not carried out", async () => {
  const { stderr } = await ours.kubectl(["get", "requestauthentications"]);
  assert.match(stderr, /Warning: RequestAuthentication is kept but not carried out yet/);
});

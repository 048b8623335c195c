// Which attached policies a waypoint asks: by Gateway, by class, by service.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Action, Authorization } from "../wire/gen/authorization.gen.ts";
import { Policy, type Target } from "../wire/gen/waypoint.gen.ts";
import { WaypointPolicies } from "./waypoint-policy.ts";

type Kind = NonNullable<Target["kind"]>;

function resource(name: string, kinds: readonly (Kind | undefined)[], dryRun = false) {
  const [namespace = "", short = ""] = name.split("/");
  const authorization = Authorization.create({
    namespace,
    name: short,
    action: Action.DENY,
    dryRun,
  });
  const targets = kinds.map((kind) => (kind === undefined ? {} : { kind }));
  return { name, bytes: Policy.encode({ authorization, targets, unchecked: [] }).finish() };
}

const SERVICE = "shop/web.shop.svc.cluster.local";
const GATEWAY: Kind = { $case: "gateway", value: "shop/wp" };
const OTHER_GATEWAY: Kind = { $case: "gateway", value: "shop/other" };
const CLASS: Kind = { $case: "gatewayClass", value: "istio-waypoint" };
const WEB: Kind = { $case: "service", value: SERVICE };

function policies(): WaypointPolicies {
  const made = new WaypointPolicies({ gateway: "shop/wp", gatewayClass: "istio-waypoint" });
  made.apply({
    resources: [
      resource("shop/gateway", [GATEWAY]),
      resource("shop/other", [OTHER_GATEWAY]),
      resource("istio-system/class", [CLASS]),
      resource("shop/web", [WEB]),
      resource("shop/both", [OTHER_GATEWAY, WEB]),
    ],
    removed: [],
  });
  return made;
}

function keys(of: WaypointPolicies, service: string | null): string[] {
  return of
    .setFor(service)
    .denies.map((p) => p.key)
    .sort();
}

test("a service's policies join those of the Gateway and its class; a pod has only these", () => {
  const p = policies();
  const always = ["istio-system/class", "shop/gateway"];
  assert.deepEqual(keys(p, null), always);
  assert.deepEqual(keys(p, SERVICE), [
    "istio-system/class",
    "shop/both",
    "shop/gateway",
    "shop/web",
  ]);
  assert.deepEqual(keys(p, "shop/db.shop.svc.cluster.local"), always);
});

test("changes and removals count at once, and the generation rises", () => {
  const p = policies();
  const before = p.generation;
  assert.equal(keys(p, SERVICE).length, 4);
  p.apply({ resources: [resource("shop/gateway", [OTHER_GATEWAY])], removed: ["shop/web"] });
  assert.deepEqual(keys(p, SERVICE), ["istio-system/class", "shop/both"]);
  assert.ok(p.generation > before);
});

test("a dry run is asked and not obeyed", () => {
  const p = policies();
  p.apply({ resources: [resource("shop/dry", [WEB], true)], removed: [] });
  assert.equal(p.setFor(SERVICE).dryDenies.length, 1);
});

test("what cannot be read is named, and what was known stays", () => {
  const p = policies();
  const rejected = p.apply({
    resources: [
      { name: "shop/web", bytes: Buffer.from([0xff]) },
      { name: "shop/empty", bytes: new Uint8Array() },
      resource("shop/new-kind", [undefined]),
    ],
    removed: [],
  });
  assert.deepEqual(
    rejected.map((r) => r.name),
    ["shop/web", "shop/empty", "shop/new-kind"],
  );
  assert.equal(p.size, 5);
  assert.ok(keys(p, SERVICE).includes("shop/web"));
});

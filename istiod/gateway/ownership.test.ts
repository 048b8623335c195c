// Which revision looks after which Gateway, and which classes are served.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { GatewayClass, Service } from "#lib/kube/objects.ts";
import { classOf, isDeployed, WAYPOINT_CLASS } from "./classes.ts";
import { isOurs, ownTags } from "./ownership.ts";
import { waypointGateway } from "./test-gateway.ts";

const tagService = (tag: string, revision: string): Service => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: {
    name: `istiod-revision-tag-${tag}`,
    labels: { "istio.io/tag": tag, "istio.io/rev": revision },
  },
});
const TAGS = [tagService("stable", "one"), tagService("default", "two")];
const rev = (revision: string): Record<string, string> => ({ "istio.io/rev": revision });

for (const c of [
  { name: "no label is the default revision's", revision: "", labels: {}, home: {}, want: true },
  { name: "no label is not another one's", revision: "one", labels: {}, home: {}, want: false },
  { name: "no label, by the tag default", revision: "two", labels: {}, home: {}, want: true },
  { name: "own label", revision: "one", labels: rev("one"), home: rev("x"), want: true },
  {
    name: "own label of another",
    revision: "one",
    labels: rev("two"),
    home: rev("one"),
    want: false,
  },
  { name: "the namespace's label", revision: "one", labels: {}, home: rev("one"), want: true },
  { name: "by a tag", revision: "one", labels: rev("stable"), home: {}, want: true },
  {
    name: "a tag of another revision",
    revision: "two",
    labels: rev("stable"),
    home: {},
    want: false,
  },
  {
    name: "a namespace nobody knows yet",
    revision: "one",
    labels: {},
    home: undefined,
    want: true,
  },
])
  test(`ownership: ${c.name}`, () => {
    assert.equal(isOurs(c.labels, c.home, ownTags(c.revision, TAGS)), c.want);
  });

const classObject = (controllerName: string): GatewayClass => ({
  apiVersion: "gateway.networking.k8s.io/v1",
  kind: "GatewayClass",
  metadata: { name: "x" },
  spec: { controllerName },
});

for (const c of [
  { name: "istio-waypoint", object: undefined, want: WAYPOINT_CLASS },
  { name: "mine", object: classObject("istio.io/mesh-controller"), want: WAYPOINT_CLASS },
  { name: "istio-waypoint", object: classObject("example.org/other"), want: null },
  { name: "istio", object: undefined, want: null },
])
  test(`class ${c.name} of ${c.object?.spec?.controllerName ?? "nobody"}`, () => {
    const gateway = waypointGateway({ spec: { gatewayClassName: c.name } });
    assert.equal(classOf(gateway, c.object), c.want);
  });

for (const c of [
  { addresses: [], want: true },
  { addresses: [{ value: "192.0.2.1" }], want: true },
  { addresses: [{ type: "Hostname", value: "x" }], want: false },
  { addresses: [{ value: "192.0.2.1" }, { value: "192.0.2.2" }], want: false },
])
  test(`deployed with addresses ${JSON.stringify(c.addresses)}: ${c.want}`, () => {
    assert.equal(isDeployed(waypointGateway({ spec: { addresses: c.addresses } })), c.want);
  });

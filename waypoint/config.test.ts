// The environment of a Gateway's Deployment, and what a wrong one is told.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ConfigError, type Env } from "#lib/base/config-reader.ts";
import { dumpConfig, readConfig, type Config } from "./config.ts";

const DEPLOYMENT = {
  POD_NAME: "wp-7d9c4",
  POD_NAMESPACE: "shop",
  SERVICE_ACCOUNT: "wp",
  INSTANCE_IP: "10.0.0.7",
  GATEWAY_NAME: "wp",
};
const read = (env: Env = {}): Config =>
  readConfig({ ...DEPLOYMENT, ...env }, { exists: () => false, hasIpv6: true });

test("what a Deployment says of the pod is enough", () => {
  const c = read();
  assert.equal(c.identity, "spiffe://cluster.local/ns/shop/sa/wp");
  assert.equal(c.gateway.key, "shop/wp");
  assert.equal(c.gateway.className, "istio-waypoint");
  assert.equal(c.xds.address, "https://istiod.istio-system.svc:15012");
  assert.equal(c.ca.address, c.xds.address);
  assert.deepEqual(c.token, { kind: "file", path: "/var/run/secrets/tokens/istio-token" });
  assert.deepEqual(c.xds.root, { kind: "file", value: "/var/run/secrets/istio/root-cert.pem" });
  assert.equal(c.clusterId, "Kubernetes");
  assert.equal(c.nodeMetadata.get("GATEWAY_NAME"), "wp");
  assert.ok(Object.isFrozen(c));
});

test("settings win over defaults, and the CA follows the control plane", () => {
  const c = read({
    XDS_ADDRESS: "istiod-canary.istio-system.svc:15012",
    TRUST_DOMAIN: "example.org",
    ISTIO_META_CLUSTER_ID: "west",
    ISTIO_META_NODE_NAME: "n1",
    TERMINATION_GRACE_PERIOD_SECONDS: "30",
  });
  assert.equal(c.ca.address, "https://istiod-canary.istio-system.svc:15012");
  assert.equal(c.identity, "spiffe://example.org/ns/shop/sa/wp");
  assert.equal(c.clusterId, "west");
  assert.equal(c.nodeName, "n1");
  assert.equal(c.drainDeadlineMs, 25_000);
  assert.equal(read({ CA_ADDR: "ca:15012" }).ca.address, "https://ca:15012");
});

test("every mistake is named at once", () => {
  const bad = { POD_NAME: "", GATEWAY_NAME: undefined, INSTANCE_IP: "x", SECRET_TTL: "soon" };
  assert.throws(
    () => read(bad),
    (error: unknown) => {
      assert.ok(error instanceof ConfigError);
      for (const name of ["POD_NAME", "GATEWAY_NAME", "INSTANCE_IP", "SECRET_TTL"])
        assert.match(error.message, new RegExp(name));
      return true;
    },
  );
});

test("a dump hides secrets", () => {
  const text = JSON.stringify(dumpConfig(read({ XDS_HEADER_X: "secret" })));
  assert.ok(!text.includes('secret"'));
  assert.match(text, /redacted/);
});

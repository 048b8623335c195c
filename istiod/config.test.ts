// Settings: defaults, and every mistake named at once.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { dumpConfig, readConfig } from "./config.ts";

const BASE = { MANIFEST_DIR: "/m", JWKS_FILE: "/j" };

test("defaults are Istio's", () => {
  const config = readConfig(BASE);
  assert.equal(config.address, "[::]:15012");
  assert.equal(config.monitoringAddress, "127.0.0.1:15014");
  assert.deepEqual(config.tokenAudiences, ["istio-ca"]);
  assert.equal(config.clusterId, "Kubernetes");
  assert.equal(config.mesh.trustDomain, "cluster.local");
  assert.equal(config.defaultCertTtlMs, 86_400_000);
  assert.equal(config.maxCertTtlMs, 90 * 86_400_000);
  assert.equal(config.trustedNodeAccounts.size, 0);
  assert.ok(Object.isFrozen(config));
  assert.doesNotThrow(() => JSON.stringify(dumpConfig(config)));
});

test("values are read as Istio spells them", () => {
  const config = readConfig({
    ...BASE,
    ISTIOD_ADDR: ":15012",
    CA_TRUSTED_NODE_ACCOUNTS: "istio-system/ztunnel, other/z",
    DEFAULT_WORKLOAD_CERT_TTL: "1h30m",
    TRUST_DOMAIN: "my@domain",
    ISTIO_MULTIROOT_MESH: "true",
    LOG_FORMAT: "json",
  });
  assert.equal(config.address, "[::]:15012");
  assert.deepEqual([...config.trustedNodeAccounts], ["istio-system/ztunnel", "other/z"]);
  assert.equal(config.defaultCertTtlMs, 5_400_000);
  assert.equal(config.mesh.trustDomain, "my.domain");
  assert.equal(config.allowRootChange, true);
});

test("all mistakes are reported together", () => {
  assert.throws(
    () =>
      readConfig({
        ISTIOD_ADDR: "nowhere",
        LOG_LEVEL: "loud",
        ISTIO_MULTIROOT_MESH: "maybe",
        MAX_WORKLOAD_CERT_TTL: "1 day",
        CA_TRUSTED_NODE_ACCOUNTS: "ztunnel",
      }),
    (error: Error & { code: string }) => {
      assert.equal(error.code, "CONFIG_INVALID");
      for (const name of [
        "MANIFEST_DIR",
        "JWKS_FILE",
        "ISTIOD_ADDR",
        "LOG_LEVEL",
        "ISTIO_MULTIROOT_MESH",
        "MAX_WORKLOAD_CERT_TTL",
        "CA_TRUSTED_NODE_ACCOUNTS",
      ])
        assert.match(error.message, new RegExp(name));
      return true;
    },
  );
});

test("the mesh configuration file", () => {
  const dir = mkdtempSync(join(tmpdir(), "mesh-"));
  try {
    const path = join(dir, "mesh.yaml");
    writeFileSync(
      path,
      "trustDomain: td\nrootNamespace: roots\nunknown: 1\ndefaultConfig: {discoveryAddress: 'istiod.x:15012'}\n" +
        "discoverySelectors:\n- matchLabels: {mesh: 'on'}\n- matchExpressions: [{key: env, operator: In, values: [a]}]\n",
    );
    const { mesh } = readConfig({ ...BASE, MESH_CONFIG: path });
    assert.equal(mesh.trustDomain, "td");
    assert.equal(mesh.rootNamespace, "roots");
    assert.equal(mesh.discoveryAddress, "istiod.x:15012");
    assert.deepEqual(mesh.discoverySelectors[0]?.matchLabels, { mesh: "on" });
    writeFileSync(path, "trustDomain: [1]\ndiscoverySelectors: {}\n");
    assert.throws(
      () => readConfig({ ...BASE, MESH_CONFIG: path }),
      /discoverySelectors is not a list.*trustDomain is not a text/,
    );
    writeFileSync(path, "a: [");
    assert.throws(() => readConfig({ ...BASE, MESH_CONFIG: path }), { code: "CONFIG_INVALID" });
  } finally {
    rmSync(dir, { recursive: true });
  }
});

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

test("without a directory it is the API server, and no key set is needed", () => {
  const config = readConfig({ KUBECONFIG: "/k" });
  assert.equal(config.manifestDir, null);
  assert.equal(config.jwksFile, null);
  assert.equal(config.kubeconfig, "/k");
  assert.equal(config.monitoringAddress, "[::]:15014", "probes come from outside the pod");
  assert.equal(config.electsLeader, true);
  assert.equal(config.rootConfigMap, "istio-ca-root-cert");
  assert.equal(config.untaint, null);
  const untaints = readConfig({ PILOT_ENABLE_NODE_UNTAINT_CONTROLLERS: "true" }).untaint;
  assert.deepEqual(untaints, { taint: "cni.istio.io/not-ready", namespace: "istio-system" });
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
        MANIFEST_DIR: "/m",
        ISTIOD_ADDR: "nowhere",
        LOG_LEVEL: "loud",
        ISTIO_MULTIROOT_MESH: "maybe",
        MAX_WORKLOAD_CERT_TTL: "1 day",
        CA_TRUSTED_NODE_ACCOUNTS: "ztunnel",
      }),
    (error: Error & { code: string }) => {
      assert.equal(error.code, "CONFIG_INVALID");
      for (const name of [
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
      /mesh\.yaml:1: trustDomain is not a text; .*mesh\.yaml:2: discoverySelectors is not a list/,
    );
    writeFileSync(path, "a: [");
    assert.throws(() => readConfig({ ...BASE, MESH_CONFIG: path }), { code: "CONFIG_INVALID" });
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test("each mistake in the mesh configuration file is named by line and field", () => {
  const dir = mkdtempSync(join(tmpdir(), "mesh-"));
  try {
    const path = join(dir, "mesh.yaml");
    for (const { text, want } of [
      { text: "rootNamespace: roots\ntrustDomain: 7\n", want: ":2: trustDomain is not a text" },
      { text: "- a\n", want: ":1: the file is not a mapping" },
      { text: "a: 1\nb: [\n", want: ":3: Flow sequence" },
      { text: "a: *b\n", want: ":1: " },
      {
        text: "discoverySelectors:\n- matchLabels: {a: b}\n- matchExpressions:\n  - key: a\n    operator: Is\n",
        want: ":5: discoverySelectors[1].matchExpressions[0].operator is none of In, NotIn",
      },
      {
        text: "discoverySelectors:\n- matchExpressions: [{key: a, operator: In}]\n",
        want: ":2: discoverySelectors[0] cannot be evaluated: Operator In",
      },
      {
        text: "serviceEntryVisibility:\n  policies:\n  - visibility: SOME\n",
        want: ":3: serviceEntryVisibility.policies[0].visibility is none of PUBLIC, NAMESPACE",
      },
      {
        text: "defaultConfig:\n  discoveryAddress: 'http://x/y'\n",
        want: ":2: defaultConfig.discoveryAddress is no address",
      },
    ]) {
      writeFileSync(path, text);
      assert.throws(
        () => readConfig({ ...BASE, MESH_CONFIG: path }),
        (error: Error) => {
          assert.ok(error.message.includes(`MESH_CONFIG ${path}${want}`), error.message);
          return true;
        },
      );
    }
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test("ranges for automatic addresses", () => {
  const names = (env: object) => dumpConfig(readConfig({ ...BASE, ...env }))["allocation"];
  assert.deepEqual(names({}), { v4: "240.240.0.0/16", v6: "2001:2::/48" });
  assert.equal(names({ PILOT_ENABLE_IP_AUTOALLOCATE: "false" }), null);
  for (const value of ["2001:2::/48", "10.0.0.1", "x"])
    assert.throws(
      () => readConfig({ ...BASE, PILOT_IP_AUTOALLOCATE_IPV4_PREFIX: value }),
      /PILOT_IP_AUTOALLOCATE_IPV4_PREFIX=.* is no IPv4 range such as 240\.240\.0\.0\/16/,
    );
});

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Secret } from "#lib/base/config-reader.ts";
import { connectionSettings, readToken, readTrust } from "#lib/grpc/control-plane.ts";
import { proxyNode } from "#lib/xds/proxy-node.ts";
import { readConfig } from "../config.ts";

const around = { cores: 2, exists: () => false, meshFile: null, parseYaml: () => null };

test("tokens and anchors are read when used, so that renewed files count", async () => {
  const dir = mkdtempSync(join(tmpdir(), "control-plane-"));
  const path = join(dir, "file");
  for (const text of ["first", "second\n"]) {
    writeFileSync(path, text);
    assert.equal(await readToken({ kind: "file", path }), text.trim());
    assert.equal(String(await readTrust({ kind: "file", value: path })), text);
  }
  rmSync(dir, { recursive: true });
  await assert.rejects(readToken({ kind: "file", path }), { code: "ENOENT" });
  assert.equal(await readToken({ kind: "literal", token: new Secret("t") }), "t");
  assert.equal(await readToken({ kind: "none" }), null);
  assert.equal(await readTrust({ kind: "system", value: "" }), null);
  assert.equal(String(await readTrust({ kind: "pem", value: "PEM" })), "PEM");
});

test("the node names itself as istiod expects, and headers are lower case", () => {
  const config = readConfig(
    {
      NODE_NAME: "worker-1",
      POD_NAME: "ztunnel-x",
      POD_NAMESPACE: "istio-system",
      INSTANCE_IP: "172.30.0.1",
      ISTIO_META_CLUSTER_ID: "east",
      ISTIO_META_FOO: "bar",
      ISTIO_METAJSON_DEEP: '{"a":[1]}',
      XDS_HEADER_X_KEY: "v",
      ALT_XDS_HOSTNAME: "istiod.local",
    },
    around,
  );
  assert.deepEqual(proxyNode("ztunnel", config), {
    id: "ztunnel~172.30.0.1~ztunnel-x.istio-system~istio-system.svc.cluster.local",
    metadata: {
      NAME: "ztunnel-x",
      NAMESPACE: "istio-system",
      INSTANCE_IPS: "172.30.0.1",
      NODE_NAME: "worker-1",
      CLUSTER_ID: "east",
      FOO: "bar",
      DEEP: { a: [1] },
    },
  });
  const settings = connectionSettings(config.xds, config);
  assert.deepEqual(
    [settings.clusterId, settings.altHostname, settings.headers],
    ["east", "istiod.local", { x_key: "v" }],
  );
});

import assert from "node:assert/strict";
import { test } from "node:test";
import { parse as parseYaml } from "yaml";
import { tryParseCores, tryParseDurationMs, type Env } from "#lib/base/config-reader.ts";
import { dumpConfig, readConfig, type Config, type ConfigSurroundings } from "./config.ts";

function read(env: Env, around: Partial<ConfigSurroundings> = {}): Config {
  return readConfig(env, { cores: 16, exists: () => false, meshFile: null, parseYaml, ...around });
}

test("an empty environment gives Istio's defaults", () => {
  const c = read({});
  assert.deepEqual(
    [c.mode, c.clusterId, c.clusterDomain, c.network, c.xds.address, c.ca.address],
    [
      "shared",
      "Kubernetes",
      "cluster.local",
      "",
      "https://localhost:15012",
      "https://localhost:15012",
    ],
  );
  assert.deepEqual(c.xds.root, { kind: "file", value: "./var/run/secrets/istio/root-cert.pem" });
  assert.deepEqual(c.token, { kind: "none" });
  assert.equal(c.packetMark, 0x539);
  assert.equal(c.drainDeadlineMs, 5_000);
  assert.equal(c.pod.ip, "1.1.1.1");
  assert.deepEqual(c.ports, { admin: 15_000, metrics: 15_020, readiness: 15_021 });
  assert.ok(Object.isFrozen(c));
});

for (const c of [
  {
    name: "in a cluster",
    env: { KUBERNETES_SERVICE_HOST: "10.96.0.1" },
    want: "https://istiod.istio-system.svc:15012",
  },
  {
    name: "scheme added",
    env: { XDS_ADDRESS: "istiod.mesh.svc:15012" },
    want: "https://istiod.mesh.svc:15012",
  },
  { name: "proxy config", env: { PROXY_CONFIG: "discoveryAddress: a:1" }, want: "https://a:1" },
  {
    name: "XDS_ADDRESS beats it",
    env: { PROXY_CONFIG: "discoveryAddress: a:1", XDS_ADDRESS: "b:2" },
    want: "https://b:2",
  },
])
  test(`xDS address: ${c.name}`, () => assert.equal(read(c.env).xds.address, c.want));

test("CA_ADDRESS does not fall back to XDS_ADDRESS", () => {
  assert.equal(read({ XDS_ADDRESS: "b:2" }).ca.address, "https://localhost:15012");
});

for (const c of [
  { env: {}, cores: 16, want: 4 },
  { env: {}, cores: 2, want: 2 },
  { env: { ZTUNNEL_RESOURCE_CPU_REQUEST: "5500m" }, cores: 16, want: 6 },
  { env: { ZTUNNEL_CPU_LIMIT: "500m" }, cores: 16, want: 1 },
  {
    env: { ZTUNNEL_RESOURCE_CPU_LIMIT: "1.5", ZTUNNEL_RESOURCE_CPU_REQUEST: "3" },
    cores: 16,
    want: 3,
  },
  { env: { PROXY_CONFIG: '{"concurrency": 0}' }, cores: 16, want: 16 },
  { env: { PROXY_CONFIG: '{"concurrency": 3}', ZTUNNEL_WORKER_THREADS: "7" }, cores: 16, want: 7 },
  { env: { ZTUNNEL_WORKER_THREADS: "10%" }, cores: 16, want: 2 },
  { env: { ZTUNNEL_WORKER_THREADS: "0" }, cores: 16, want: 16 },
])
  test(`worker threads: ${JSON.stringify(c.env)} on ${c.cores} cores`, () =>
    assert.equal(read(c.env, { cores: c.cores }).workerThreads, c.want));

for (const c of [
  { env: { TERMINATION_GRACE_PERIOD_SECONDS: "30" }, want: 25_000 },
  { env: { TERMINATION_GRACE_PERIOD_SECONDS: "10" }, want: 9_000 },
  { env: { TERMINATION_GRACE_PERIOD_SECONDS: "1" }, want: 1_000 },
  {
    env: { TERMINATION_GRACE_PERIOD_SECONDS: "30", CONNECTION_TERMINATION_DEADLINE: "2m" },
    want: 120_000,
  },
])
  test(`drain deadline: ${JSON.stringify(c.env)}`, () =>
    assert.equal(read(c.env).drainDeadlineMs, c.want));

for (const c of [
  { text: "10s", want: 10_000 },
  { text: "1h30m", want: 5_400_000 },
  { text: "250ms", want: 250 },
  { text: "24h", want: 86_400_000 },
  { text: "10", want: null },
  { text: "1.5s", want: null },
  { text: "-1s", want: null },
  { text: "10 s", want: null },
  { text: "999999999d", want: null },
])
  test(`duration ${JSON.stringify(c.text)}`, () =>
    assert.equal(tryParseDurationMs(c.text), c.want));

test("CPU quantities round up to cores", () => {
  assert.deepEqual(["100m", "1001m", "2", "1.2", "x", "1,2"].map(tryParseCores), [
    1,
    2,
    2,
    2,
    null,
    null,
  ]);
});

test("every mistake is named at once", () => {
  const env = {
    PROXY_MODE: "dedicated",
    IPV6_ENABLED: "yes",
    SECRET_TTL: "1 day",
    PACKET_MARK: "0",
    XDS_ADDRESS: "http://istiod:15010",
    PROXY_CONFIG: "concurrency: many",
    RUST_LOG: "loud",
    CRL_PATH: "/crl.pem",
    ISTIO_METAJSON_X: "{",
    LOG_FORMAT: "xml",
  };
  assert.throws(
    () => read(env),
    (error: Error) => {
      for (const name of [
        "PROXY_MODE",
        "IPV6_ENABLED",
        "SECRET_TTL",
        "PACKET_MARK",
        "XDS_ADDRESS",
        "concurrency",
        "RUST_LOG",
        "CRL_PATH",
        "ISTIO_METAJSON_X",
        "LOG_FORMAT",
      ])
        assert.ok(error.message.includes(name), `${name} is missing in: ${error.message}`);
      return true;
    },
  );
});

test("metadata: proxy config, then ISTIO_META_, then ISTIO_METAJSON_", () => {
  const c = read(
    {
      PROXY_CONFIG: "proxyMetadata: { ISTIO_META_A: '1', B: '2', DNS_CAPTURE: 'false' }",
      ISTIO_META_B: "3",
      ISTIO_META_CLUSTER_ID: "east",
      CLUSTER_ID: "west",
      ISTIO_METAJSON_A: '{"x":1}',
    },
    { meshFile: "defaultConfig:\n  statsPort: 15090\n  proxyMetadata:\n    C: '4'\n" },
  );
  assert.deepEqual(Object.fromEntries(c.nodeMetadata), {
    C: "4",
    A: { x: 1 },
    B: "3",
    DNS_CAPTURE: "false",
    CLUSTER_ID: "east",
  });
  assert.equal(c.clusterId, "east");
  assert.equal(c.dnsCapture, false);
  assert.equal(c.ports.metrics, 15_090);
});

test("secrets do not appear in the dump", () => {
  const c = read({ AUTH_TOKEN: "s3cret", XDS_HEADER_X_KEY: "s3cret" });
  const dump = JSON.stringify(dumpConfig(c));
  assert.ok(!dump.includes("s3cret"), dump);
  assert.match(dump, /"x_key":"\[redacted\]"/);
  assert.equal(c.token.kind === "literal" && c.token.token.reveal(), "s3cret");
});

test("tokens and roots: paths, SYSTEM and text are told apart", () => {
  const exists = (path: string): boolean =>
    path === "/t" || path === "./var/run/secrets/tokens/istio-token";
  assert.deepEqual(read({}, { exists }).token, {
    kind: "file",
    path: "./var/run/secrets/tokens/istio-token",
  });
  assert.deepEqual(read({ AUTH_TOKEN: "/t" }, { exists }).token, { kind: "file", path: "/t" });
  assert.equal(read({ XDS_ROOT_CA: "SYSTEM" }).xds.root.kind, "system");
  assert.equal(read({ XDS_ROOT_CA: "-----BEGIN CERTIFICATE-----" }).xds.root.kind, "pem");
  assert.equal(read({ CA_ROOT_CA: "/later/root.pem" }).ca.root.kind, "file");
});

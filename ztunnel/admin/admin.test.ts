// The admin, metrics and readiness ports over real HTTP, with workers that are played by the test.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parse as parseYaml } from "yaml";
import { HttpServer, type Routes } from "#lib/obs/http-server.ts";
import { LogFilter } from "#lib/obs/log-filter.ts";
import { LogScopes } from "#lib/obs/log-scopes.ts";
import { readinessRoutes } from "#lib/obs/readiness-routes.ts";
import { Readiness } from "#lib/obs/readiness.ts";
import { ips, mesh, policy, service, vips, workload, match } from "#lib/model/test-mesh.ts";
import type { TunnelEvent } from "#lib/model/tunnel.ts";
import { XdsCounters } from "#lib/xds/xds-counters.ts";
import type { MetricsSnapshot } from "#lib/proxy/telemetry/snapshot.ts";
import { SOURCE_LABELS, TRAFFIC_LABELS } from "#lib/proxy/telemetry/traffic-labels.ts";
import { EventHub } from "#lib/proxy/telemetry/event-hub.ts";
import { readConfig } from "../config.ts";
import { DnsCounters, observeUpstream } from "../dns/dns-counters.ts";
import type { Snapshots } from "../state/data-plane.ts";
import type { SnapshotKind } from "../state/worker-link.ts";
import { adminRoutes, metricsRoutes, type AdminParts } from "./routes.ts";

const CONNECTION = {
  src: "10.0.1.9:1",
  originalDst: "10.96.0.5:80",
  actualDst: "10.0.2.4:15008",
  protocol: "HBONE",
};

function metrics(flags: string, part: object): MetricsSnapshot {
  const labels = TRAFFIC_LABELS.map((name) =>
    name === "response_flags" ? flags : name === "reporter" ? "source" : `${name}"\\\n`,
  );
  const none = { opened: 0, closed: 0, failed: 0, received: 0, sent: 0 };
  return {
    traffic: [{ labels, ...none, ...part }],
    socketsOpen: { source: 1, destination: 2 },
    denials: [{ labels: ["viewer", "shop", "policy_no_allow_match", "id", "cart"], count: 2 }],
    onDemandDns: [{ labels: [...SOURCE_LABELS, "db.example"], count: 1 }],
    handshakes: [{ role: "client", outcome: "ok", counts: [0, 3, 1], sumSeconds: 0.25 }],
    tunnelsActive: 3,
    eventsLost: 1,
  };
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

interface World extends AsyncDisposable {
  readonly url: (path: string) => string;
  readonly scopes: LogScopes;
  readonly shutdowns: () => number;
  silent: boolean;
}

async function world(routesOf: (parts: AdminParts) => Routes = adminRoutes): Promise<World> {
  const config = readConfig(
    { NODE_NAME: "n1", NETWORK: "net1", AUTH_TOKEN: "s3cret" },
    { cores: 2, exists: () => false, meshFile: null, parseYaml },
  );
  const tables = mesh({
    services: [service("cart", { namespace: "shop", vips: vips("10.96.0.5") })],
    workloads: [
      workload("curl", { namespace: "shop", addresses: ips("10.0.1.9") }),
      workload("cart-1", { namespace: "shop", addresses: ips("10.0.2.4") }),
    ],
    policies: [
      policy("Allow", [[[match({ namespaces: [{ kind: "exact", value: "a" }] })]]], {
        namespace: "shop",
      }),
    ],
  });
  const scopes = new LogScopes({
    filter: LogFilter.parse("info"),
    format: "plain",
    destination: { write: () => {} },
  });
  let shutdowns = 0;
  const state = { silent: false };
  const dns = new DnsCounters();
  observeUpstream(dns.of(1, "udp", null), 0.05, true);
  const xds = new XdsCounters();
  xds.received("type.googleapis.com/istio.workload.Address", 100);
  xds.terminated("Reconnect");
  const snapshots = async (of: SnapshotKind): Promise<Snapshots> => {
    const one = {
      tunnels: { tunnels: [] },
      connections: { connections: [{ uid: "uid-1", inbound: [], outbound: [CONNECTION] }] },
      metrics: { metrics: metrics("-", { opened: 2, closed: 1, received: 10, sent: 20 }) },
      events: { events: [] },
    }[of];
    const two = of === "metrics" ? { metrics: metrics("-", { opened: 1 }) } : {};
    const answers = [one, two].map((part, worker) => ({
      worker,
      snapshot: { type: "snapshot" as const, id: 1, ...(part as object) },
    }));
    return state.silent ? { answers: [], failed: ["worker 0 is silent"] } : { answers, failed: [] };
  };
  const dataPlane = { snapshots } as unknown as AdminParts["dataPlane"];
  const info = { uid: "uid-1", name: "curl", namespace: "shop", serviceAccount: "curl" };
  const pods = {
    active: 1,
    pending: 0,
    started: 4,
    stopped: 3,
    views: () => [{ uid: "uid-1", state: "Up", info, error: null }],
  };
  const parts: AdminParts = {
    config,
    tables,
    dataPlane,
    certificates: {
      views: () => [
        {
          identity: "spiffe://cluster.local/ns/shop/sa/curl",
          state: "unavailable",
          material: null,
          error: "no signer",
        },
      ],
    } as unknown as AdminParts["certificates"],
    pods: pods as unknown as AdminParts["pods"],
    events: new EventHub({ dataPlane, pause: nextTurn, now: Date.now }),
    scopes,
    dnsCounters: dns,
    xdsCounters: xds,
    shutdown: () => shutdowns++,
  };
  const server = await HttpServer.listen([{ host: "127.0.0.1", port: 0 }], routesOf(parts));
  return {
    url: (path) => `http://127.0.0.1:${server.port}${path}`,
    scopes,
    shutdowns: () => shutdowns,
    get silent() {
      return state.silent;
    },
    set silent(silent) {
      state.silent = silent;
    },
    [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
  };
}

test("/config_dump has the keys and shapes istioctl reads, and no secret", async () => {
  await using w = await world();
  const text = await (await fetch(w.url("/config_dump"))).text();
  assert.ok(!text.includes("s3cret"));
  const dump = JSON.parse(text) as Record<string, unknown>;
  assert.deepEqual(Object.keys(dump), [
    "certificates",
    "config",
    "policies",
    "services",
    "stagedServices",
    "staticConfig",
    "version",
    "workloadState",
    "workloads",
  ]);
  assert.deepEqual(dump["certificates"], [
    {
      certChain: [],
      identity: "spiffe://cluster.local/ns/shop/sa/curl",
      rootCerts: [],
      state: "Unavailable: no signer",
    },
  ]);
  assert.deepEqual(dump["workloadState"], {
    "uid-1": {
      connections: { inbound: [], outbound: [CONNECTION] },
      info: { name: "curl", namespace: "shop", serviceAccount: "curl" },
      state: "Up",
    },
  });
  assert.equal((dump["workloads"] as unknown[]).length, 2);
  assert.match(text, /^\{\n {2}"certificates"/, "pretty");
});

test("/logging shows, changes, adds to and resets the filter", async () => {
  await using w = await world();
  const post = async (query: string): Promise<[number, string]> => {
    const answer = await fetch(w.url(`/logging${query}`), { method: "POST" });
    return [answer.status, (await answer.text()).split("\n")[0] ?? ""];
  };
  assert.deepEqual(await post(""), [200, "current log level is info"]);
  assert.deepEqual(await post("?level=access=debug,dns=trace"), [
    200,
    "current log level is access=debug,dns=trace,info",
  ]);
  assert.deepEqual(await post("?level=warn"), [
    200,
    "current log level is access=debug,dns=trace,warn",
  ]);
  assert.deepEqual(await post("?reset&level=dns=off"), [200, "current log level is dns=off,info"]);
  assert.deepEqual(await post("?reset"), [200, "current log level is info"]);
  assert.equal((await post("?level=access"))[0], 400, "a bare scope");
  assert.equal((await post("?levle=info"))[0], 400);
  assert.equal(w.scopes.filter.toString(), "info", "a refused change changes nothing");
  const get = await fetch(w.url("/logging"));
  assert.equal(get.status, 405);
  assert.match(await get.text(), /usage: POST \/logging/);
});

test("/quitquitquit wants POST and shuts down once answered", async () => {
  await using w = await world();
  assert.equal((await fetch(w.url("/quitquitquit"))).status, 405);
  assert.equal(w.shutdowns(), 0);
  assert.equal((await fetch(w.url("/quitquitquit"), { method: "POST" })).status, 200);
  assert.equal(w.shutdowns(), 1);
});

test("/ambit/tunnels is a TunnelList and names a worker that is silent", async () => {
  await using w = await world();
  const list = async (): Promise<Record<string, unknown>> =>
    (await (await fetch(w.url("/ambit/tunnels"))).json()) as Record<string, unknown>;
  const full = await list();
  assert.deepEqual(
    [full["apiVersion"], full["kind"], full["items"]],
    ["ambit/v1", "TunnelList", []],
  );
  w.silent = true;
  const { meta } = (await list()) as { meta: { partial: unknown } };
  assert.deepEqual(meta.partial, [{ node: "n1", error: "worker 0 is silent" }]);
});

test("/ambit/explain decides on paper, by address and by name", async () => {
  await using w = await world();
  const ask = async (
    query: string,
  ): Promise<{ status: number; verdict?: string; deniedAt?: string }> => {
    const answer = await fetch(w.url(`/ambit/explain?${query}`));
    const body = await answer.text();
    return answer.ok
      ? { status: 200, ...(JSON.parse(body) as { verdict: string; deniedAt: string }) }
      : { status: answer.status };
  };
  for (const destination of ["10.0.2.4:8080"]) {
    const denied = await ask(`source=shop/curl&destination=${destination}`);
    assert.deepEqual([denied.verdict, denied.deniedAt], ["denied", "D4"]);
  }
  const identity = encodeURIComponent("spiffe://cluster.local/ns/a/sa/x");
  assert.equal(
    (await ask(`source=shop/curl&destination=10.0.2.4:8080&identity=${identity}`)).verdict,
    "allowed",
  );
  assert.equal((await ask("source=shop/curl&destination=cart:80")).verdict, "unroutable");
  assert.equal((await ask("source=shop/nobody&destination=cart:80")).status, 404);
  assert.equal((await ask("source=shop/curl&destination=nothing:80")).status, 404);
  assert.equal((await ask("source=shop/curl&destination=cart")).status, 404);
  assert.equal((await ask("source=shop/curl&destination=cart:80&identity=me")).status, 400);
});

test("profiles: bounds are checked, a CPU profile comes back, heap must be switched on", async () => {
  await using w = await world();
  const status = async (path: string): Promise<number> => (await fetch(w.url(path))).status;
  assert.equal(await status("/debug/pprof/profile?seconds=0"), 400);
  assert.equal(await status("/debug/pprof/profile?seconds=301"), 400);
  assert.equal(await status("/debug/pprof/profile?frequency=1001"), 400);
  const profile = (await (await fetch(w.url("/debug/pprof/profile?seconds=1"))).json()) as object;
  assert.ok("nodes" in profile && "samples" in profile);
  assert.equal(await status("/debug/pprof/heap"), 400);
  assert.equal(await status("/debug/pprof/heap/profiling?activate=maybe"), 400);
  assert.equal(await status("/debug/pprof/heap/profiling?activate=true"), 200);
  assert.equal(await status("/debug/pprof/heap"), 200);
  assert.equal(await status("/debug/pprof/heap/profiling?activate=false"), 200);
  assert.equal(await status("/debug/pprof/heap"), 400);
});

test("the index lists what there is; other paths do not exist", async () => {
  await using w = await world();
  const index = await (await fetch(w.url("/"))).text();
  for (const path of ["/config_dump", "/ambit/events", "/debug/pprof/heap"])
    assert.ok(index.includes(path));
  assert.equal((await fetch(w.url("/nope"))).status, 404);
});

test("metrics: Istio's names and label order, workers summed, flags apart, valid OpenMetrics", async () => {
  await using w = await world(metricsRoutes);
  const plain = await fetch(w.url("/metrics"));
  assert.equal(plain.headers.get("content-type"), "text/plain; charset=utf-8");
  const open = await fetch(w.url("/stats/prometheus"), {
    headers: { accept: "application/openmetrics-text;version=1.0.0,text/plain;q=0.5" },
  });
  assert.equal(
    open.headers.get("content-type"),
    "application/openmetrics-text;charset=utf-8;version=1.0.0",
  );
  assert.equal(open.headers.get("content-encoding"), "gzip", "fetch accepts gzip");
  const text = await open.text();
  assert.ok(text.endsWith("# EOF\n"));
  const line = (start: string): string => text.split("\n").find((l) => l.startsWith(start)) ?? "";
  const names = [...line("istio_tcp_connections_opened_total").matchAll(/([a-z_]+)="/g)].map(
    (m) => m[1],
  );
  assert.deepEqual(names, [...TRAFFIC_LABELS]);
  assert.match(line("istio_tcp_connections_opened_total"), / 3$/);
  assert.match(line("istio_tcp_sent_bytes_total"), / 20$/);
  assert.equal(line("istio_tcp_connections_failed_total"), "");
  assert.match(text, /source_workload="source_workload\\"\\\\\\n"/, "label values are escaped");
  for (const want of [
    'istio_tcp_sockets_open{reporter="source"} 2',
    'istio_dns_upstream_failures_total{request_query_type="a",request_protocol="udp",source_canonical_service="unknown",source_canonical_revision="unknown"} 1',
    'istio_dns_upstream_request_duration_seconds_bucket{request_query_type="a",request_protocol="udp",source_canonical_service="unknown",source_canonical_revision="unknown",le="0.1"} 1',
    'istio_xds_connection_terminations_total{reason="Reconnect"} 1',
    'istio_xds_message_bytes_total{url="type.googleapis.com/istio.workload.Address"} 100',
    "workload_manager_active_proxy_count 1",
    "workload_manager_proxies_started_total 4",
    'istio_build{component="ztunnel",tag="unknown"} 1',
    'ambit_policy_denials_total{policy="viewer",namespace="shop",reason="policy_no_allow_match",source_principal="id",destination_workload="cart"} 4',
    "ambit_tunnel_active 6",
    `istio_on_demand_dns_total{${SOURCE_LABELS.map((name) => `${name}="${name}"`).join(",")},hostname="db.example"} 2`,
    'ambit_tunnel_handshake_seconds_bucket{role="client",outcome="ok",le="0.0025"} 6',
    'ambit_tunnel_handshake_seconds_bucket{role="client",outcome="ok",le="1.0"} 8',
    'ambit_tunnel_handshake_seconds_bucket{role="client",outcome="ok",le="+Inf"} 8',
    'ambit_tunnel_handshake_seconds_sum{role="client",outcome="ok"} 0.5',
    'ambit_tunnel_handshake_seconds_count{role="client",outcome="ok"} 8',
    "# TYPE istio_tcp_connections_opened counter",
  ])
    assert.ok(text.includes(`${want}\n`), `missing: ${want}`);
});

test("readiness lists what is pending", async () => {
  const readiness = new Readiness();
  const blocker = readiness.block("state manager");
  await using server = await HttpServer.listen(
    [{ host: "127.0.0.1", port: 0 }],
    readinessRoutes(readiness),
  );
  const url = `http://127.0.0.1:${server.port}/healthz/ready`;
  const before = await fetch(url);
  assert.deepEqual(
    [before.status, await before.text()],
    [500, "not ready, pending: state manager\n"],
  );
  blocker[Symbol.dispose]();
  assert.equal((await fetch(url)).status, 200);
  assert.equal((await fetch(url, { method: "POST" })).status, 405);
  assert.equal((await fetch(`${url}/x`)).status, 404);
});

/** Workers with a ring of their own, asked by the hub. */
function hubOf(workers: TunnelEvent[][]): { hub: EventHub; stop: AbortController } {
  const snapshots = async (
    _of: SnapshotKind,
    since?: (w: number) => number | undefined,
  ): Promise<Snapshots> => ({
    answers: workers.map((events, worker) => ({
      worker,
      snapshot: {
        type: "snapshot",
        id: 1,
        events: events.filter((e) => e.seq > (since?.(worker) ?? 0)).slice(-4),
      },
    })),
    failed: [],
  });
  const stop = new AbortController();
  return { hub: new EventHub({ dataPlane: { snapshots }, pause: nextTurn, now: () => 0 }), stop };
}

function event(seq: number, second: number): TunnelEvent {
  return {
    seq,
    time: new Date(second * 1_000).toISOString(),
    event: "open",
    direction: "inbound",
    source: { address: `10.0.0.${seq}:1` },
    destination: { address: "10.0.0.2:2" },
  };
}

async function openAt(
  hub: EventHub,
  since: number | null,
  signal: AbortSignal,
): Promise<AsyncIterator<string>> {
  return (await hub.open(since, signal))[Symbol.asyncIterator]();
}

async function take(stream: AsyncIterator<string>, count: number): Promise<TunnelEvent[]> {
  const taken: TunnelEvent[] = [];
  while (taken.length < count) {
    const next = await stream.next();
    if (next.done === true) break;
    assert.ok(next.value.endsWith("\n"));
    taken.push(JSON.parse(next.value) as TunnelEvent);
  }
  return taken;
}

test("events of all workers come in one numbered order, and what is lost is told", async () => {
  const a = [event(1, 1), event(2, 4)];
  const b = [event(1, 2), event(2, 3)];
  const { hub, stop } = hubOf([a, b]);
  const stream = await openAt(hub, 0, stop.signal);
  const first = await take(stream, 4);
  assert.deepEqual(
    first.map((e) => [e.seq, e.time.slice(17, 19)]),
    [
      [1, "01"],
      [2, "02"],
      [3, "03"],
      [4, "04"],
    ],
  );
  for (let seq = 3; seq <= 12; seq++) a.push(event(seq, 10 + seq)); // the ring holds four of these ten
  const second = await take(stream, 5);
  assert.deepEqual(
    second.map((e) => [e.event, e.lost]),
    [
      ["lost", 6],
      ["open", undefined],
      ["open", undefined],
      ["open", undefined],
      ["open", undefined],
    ],
  );
  stop.abort();
  assert.deepEqual(await take(stream, 1), []);
});

test("a new listener sees what comes from now on; one that returns goes on where it was", async () => {
  const a = [event(1, 1)];
  const { hub, stop } = hubOf([a]);
  const live = await openAt(hub, null, stop.signal);
  const next = take(live, 1);
  a.push(event(2, 2), event(3, 3));
  assert.deepEqual(
    (await next).map((e) => e.seq),
    [2],
  );
  const again = await take(await openAt(hub, 2, stop.signal), 1);
  assert.deepEqual(
    again.map((e) => e.seq),
    [3],
  );
  stop.abort();
});

test("a client that leaves ends its stream", async () => {
  await using w = await world();
  const stop = new AbortController();
  const answer = await fetch(w.url("/ambit/events"), { signal: stop.signal });
  assert.equal(answer.headers.get("content-type"), "application/x-ndjson");
  stop.abort();
  assert.equal((await fetch(w.url("/ambit/events?since=x"))).status, 400);
});

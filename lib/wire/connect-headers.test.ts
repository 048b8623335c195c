// The text forms of CONNECT metadata: what we send, and everything a peer may send.
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseIp } from "../net/ip.ts";
import type { Baggage } from "./connect-headers.ts";
import {
  EMPTY_BAGGAGE,
  formatBaggage,
  formatForwarded,
  parseAuthority,
  parseBaggage,
  parseForwardedHost,
} from "./connect-headers.ts";

for (const [text, want] of [
  ["10.0.3.7:8080", "ip 10.0.3.7 8080"],
  ["0.0.0.0:1", "ip 0.0.0.0 1"],
  ["255.255.255.255:65535", "ip 255.255.255.255 65535"],
  ["[fd00::7]:8080", "ip fd00::7 8080"],
  ["[FD00:0:0::7]:80", "ip fd00::7 80"],
  ["[::ffff:10.0.3.7]:80", "ip 10.0.3.7 80"],
  ["echo.default:80", "host echo.default 80"],
  ["Echo_1.default:80", "host Echo_1.default 80"],
  ["10.0.3.256:80", "host 10.0.3.256 80"],
  ["10.0.3:80", "host 10.0.3 80"],
  ["010.0.3.7:80", "host 010.0.3.7 80"],
  ["10.0.3.7.:80", "host 10.0.3.7. 80"],
  [`${"a".repeat(253)}:80`, `host ${"a".repeat(253)} 80`],
  [`${"a".repeat(254)}:80`, null],
  ["", null],
  [":80", null],
  ["10.0.3.7", null],
  ["10.0.3.7:", null],
  ["10.0.3.7:0", null],
  ["10.0.3.7:65536", null],
  ["10.0.3.7:123456", null],
  ["10.0.3.7:-1", null],
  ["10.0.3.7:+80", null],
  ["10.0.3.7:80 ", null],
  [" 10.0.3.7:80", null],
  ["10.0.3.7:8080:80", null],
  ["[10.0.3.7]:80", null],
  ["[fd00::7]", null],
  ["[fd00::7%eth0]:80", null],
  ["fd00::7:80", null],
  ["[echo]:80", null],
  ["user@echo:80", null],
  ["echo default:80", null],
  ["echo/:80", null],
  ["http://echo:80", null],
  ["\u00e9cho:80", null],
  ["echo:\u0663", null],
] as const)
  test(`authority ${JSON.stringify(text.slice(0, 40))} reads as ${want?.slice(0, 40) ?? "nothing"}`, () => {
    const got = parseAuthority(text);
    assert.equal(got === null ? null : `${got.kind} ${hostOf(got)} ${got.port}`, want);
  });

function hostOf(authority: NonNullable<ReturnType<typeof parseAuthority>>): string {
  return authority.kind === "ip" ? authority.ip : authority.host;
}

const FULL: Baggage = {
  clusterId: "Kubernetes",
  namespace: "default",
  workloadKind: "deployment",
  workloadName: "echo-v1",
  serviceName: "echo",
  revision: "v1",
  region: "eu-1",
  zone: "eu-1a",
};

test("baggage keeps its order and comes back whole", () => {
  assert.equal(
    formatBaggage(FULL),
    "k8s.cluster.name=Kubernetes,k8s.namespace.name=default,k8s.deployment.name=echo-v1," +
      "service.name=echo,service.version=v1,cloud.region=eu-1,cloud.availability_zone=eu-1a",
  );
  assert.deepEqual(parseBaggage(formatBaggage(FULL)), FULL);
  for (const workloadKind of ["cronjob", "pod", "job"] as const)
    assert.deepEqual(parseBaggage(formatBaggage({ ...FULL, workloadKind })), {
      ...FULL,
      workloadKind,
    });
});

test("empty members, and values the list cannot carry, are left out", () => {
  assert.equal(formatBaggage(EMPTY_BAGGAGE), "");
  const awkward = { ...EMPTY_BAGGAGE, clusterId: "a,b", namespace: "a=b", serviceName: "a b" };
  assert.equal(
    formatBaggage({ ...awkward, revision: "v\n1", region: "\u00fc", zone: "z" }),
    "cloud.availability_zone=z",
  );
});

for (const [text, want] of [
  ["", {}],
  ["service.name=a", { serviceName: "a" }],
  ["service.version=v1,service.name=a", { serviceName: "a", revision: "v1" }],
  ["service.name=,service.version=", {}],
  ["service.name=a,service.name=b", { serviceName: "b" }],
  ["service.name=a,service.name=", {}],
  ["service.name=a=b", { serviceName: "a" }],
  ["service.name", {}],
  ["service.name,=x,,k8s.pod.name=p", { workloadKind: "pod", workloadName: "p" }],
  [" service.name=a", {}],
  ["service.name=a;x=y", { serviceName: "a;x" }],
  ["service.name=a%20b", { serviceName: "a%20b" }],
  ["other=1,service.name=a", { serviceName: "a" }],
  ["service.name=a,cloud.region=\u00fc", {}],
] as const)
  test(`baggage ${JSON.stringify(text)}`, () => {
    assert.deepEqual(parseBaggage(text), { ...EMPTY_BAGGAGE, ...want });
  });

test("forwarded names the source, and the service when there is one", () => {
  const v4 = { ip: parseIp("10.0.3.5"), port: 40_000 };
  const v6 = { ip: parseIp("fd00::5"), port: 40_000 };
  assert.equal(formatForwarded(v4, null), 'for="10.0.3.5:40000"');
  assert.equal(formatForwarded(v6, "echo.default"), 'for="[fd00::5]:40000";host=echo.default');
  assert.equal(parseForwardedHost(formatForwarded(v6, "echo.default")), "echo.default");
});

for (const [text, want] of [
  ["", null],
  ['for="10.0.0.1:1"', null],
  ["host=a", "a"],
  ['host="a"', "a"],
  ['host=""a""', '"a"'],
  ['host="', '"'],
  ["host=", null],
  ['host=""', null],
  ["host=a;host=b", "a"],
  ["host=;host=b", null],
  ["for=x; host=a", null],
  ["Host=a", null],
  ["proto=http;host=a;by=b", "a"],
  ["host=\u00e4", null],
] as const)
  test(`forwarded ${JSON.stringify(text)} names ${want ?? "no host"}`, () => {
    assert.equal(parseForwardedHost(text), want);
  });

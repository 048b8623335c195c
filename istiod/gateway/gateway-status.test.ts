// Statuses of Gateways from what is seen of their Services, in one table.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { EndpointSlice, Gateway, Service } from "#lib/kube/objects.ts";
import { backingServices } from "./backing-services.ts";
import { gatewayStatus, type ObservedService } from "./gateway-status.ts";
import { waypointGateway } from "./test-gateway.ts";

const HOST = "waypoint.shop.svc.cluster.local";
const SPEC = {
  clusterIP: "10.96.0.9",
  clusterIPs: ["10.96.0.9", "fd00::9"],
  ports: [
    { name: "status-port", port: 15021 },
    { name: "mesh", port: 15008, protocol: "TCP" },
  ],
};
const service = (spec: Service["spec"] = {}, status: Service["status"] = {}): Service => ({
  apiVersion: "v1",
  kind: "Service",
  metadata: { name: "waypoint", namespace: "shop" },
  spec: { ...SPEC, ...spec },
  status,
});
const slice = (ready: boolean | undefined, port = "mesh"): EndpointSlice => ({
  apiVersion: "discovery.k8s.io/v1",
  kind: "EndpointSlice",
  metadata: { name: "waypoint-1", namespace: "shop" },
  addressType: "IPv4",
  ports: [{ name: port, port: 15008 }],
  endpoints: [{ addresses: ["10.0.0.1"], conditions: ready === undefined ? {} : { ready } }],
});
const reached = (s: Service | null, ...slices: EndpointSlice[]): ObservedService => ({
  hostname: HOST,
  service: s,
  slices,
});
const READY = reached(service(), slice(true));
const IPS = [
  { type: "IPAddress", value: "10.96.0.9" },
  { type: "IPAddress", value: "fd00::9" },
];
const HOSTNAME = { type: "Hostname", value: HOST };
const listeners = (
  ...given: [port: number, protocol: string, extra?: object][]
): Gateway["spec"] => ({
  listeners: given.map(([port, protocol, extra], i) => ({
    name: `l${i}`,
    port,
    protocol,
    ...extra,
  })),
});

interface Case {
  readonly name: string;
  readonly gateway?: Gateway;
  readonly services?: readonly ObservedService[];
  readonly problem?: string;
  /** `Type=Status/Reason`, those of listeners after `name:`. */
  readonly want: readonly string[];
  readonly addresses: readonly object[] | null;
  readonly message?: RegExp;
}

const ACCEPTED = "Accepted=True/Accepted";
const PROGRAMMED = "Programmed=True/Programmed";
const FINE =
  "mesh:Accepted=True/Accepted Conflicted=False/NoConflicts Programmed=True/Programmed ResolvedRefs=True/ResolvedRefs";
const WAITING = FINE.replace("Programmed=True/Programmed", "Programmed=False/Pending");

const CASES: readonly Case[] = [
  {
    name: "ready: both cluster addresses, then the host name",
    want: [ACCEPTED, PROGRAMMED, FINE],
    addresses: [...IPS, HOSTNAME],
    message: /assigned to service\(s\) waypoint\.shop\.svc\.cluster\.local:15008/,
  },
  {
    name: "readiness that nobody reports counts as ready",
    services: [reached(service(), slice(undefined))],
    want: [ACCEPTED, PROGRAMMED, FINE],
    addresses: [...IPS, HOSTNAME],
  },
  {
    name: "no Service yet",
    services: [reached(null)],
    want: [ACCEPTED, "Programmed=False/AddressNotUsable", WAITING],
    addresses: null,
    message: /does not exist/,
  },
  {
    name: "no ready endpoint: transient, and what was published is left alone",
    services: [reached(service(), slice(false))],
    want: [ACCEPTED, "Programmed=False/AddressNotAssigned", WAITING],
    addresses: null,
    message: /no ready endpoint/,
  },
  {
    name: "endpoints of another port are none",
    services: [reached(service(), slice(true, "status-port"))],
    want: [ACCEPTED, "Programmed=False/AddressNotAssigned", WAITING],
    addresses: null,
  },
  {
    name: "a Service without the port",
    services: [reached(service({ ports: [{ port: 80 }] }), slice(true))],
    want: [ACCEPTED, "Programmed=False/AddressNotUsable", WAITING],
    addresses: null,
    message: /port 15008 not found/,
  },
  {
    name: "one kind of address only",
    gateway: waypointGateway({
      metadata: { annotations: { "networking.istio.io/address-type": "IPAddress" } },
    }),
    want: [ACCEPTED, PROGRAMMED, FINE],
    addresses: IPS,
  },
  {
    name: "addresses of a load balancer stand before those inside",
    services: [
      reached(
        service(
          { type: "LoadBalancer" },
          { loadBalancer: { ingress: [{ ip: "192.0.2.1" }, { hostname: "lb.example.org" }] } },
        ),
        slice(true),
      ),
    ],
    want: [ACCEPTED, PROGRAMMED, FINE],
    addresses: [
      { type: "IPAddress", value: "192.0.2.1" },
      { type: "Hostname", value: "lb.example.org" },
    ],
  },
  {
    name: "a load balancer that has none yet",
    services: [reached(service({ type: "LoadBalancer" }), slice(true))],
    want: [ACCEPTED, PROGRAMMED, FINE],
    addresses: [...IPS, HOSTNAME],
    message: /no load balancer address yet/,
  },
  {
    name: "a headless Service has its host name alone",
    services: [reached(service({ clusterIP: "None", clusterIPs: ["None"] }), slice(true))],
    want: [ACCEPTED, PROGRAMMED, FINE],
    addresses: [HOSTNAME],
  },
  {
    name: "parameters that nothing can be made of",
    problem: "ConfigMap shop/options: no",
    want: ["Accepted=False/InvalidParameters", "Programmed=False/Invalid", FINE],
    addresses: null,
    message: /ConfigMap shop\/options: no/,
  },
  {
    name: "another listener beside the one of a waypoint",
    gateway: waypointGateway({ spec: listeners([15008, "HBONE"], [80, "HTTP"]) }),
    want: [
      "Accepted=True/ListenersNotValid",
      PROGRAMMED,
      FINE.replace("mesh:", "l0:"),
      "l1:Accepted=False/UnsupportedProtocol Conflicted=False/NoConflicts Programmed=False/Invalid ResolvedRefs=True/ResolvedRefs",
    ],
    addresses: [...IPS, HOSTNAME],
  },
  {
    name: "no listener of a waypoint: no address, since users of it would go nowhere",
    gateway: waypointGateway({ spec: listeners([15009, "HBONE"]) }),
    want: [
      "Accepted=True/ListenersNotValid",
      "Programmed=False/Invalid",
      "l0:Accepted=False/UnsupportedProtocol Conflicted=False/NoConflicts Programmed=False/Invalid ResolvedRefs=True/ResolvedRefs",
    ],
    addresses: null,
  },
  {
    name: "two alike, and kinds of routes that never attach",
    gateway: waypointGateway({
      spec: listeners(
        [15008, "HBONE", { allowedRoutes: { kinds: [{ kind: "HTTPRoute" }] } }],
        [15008, "HBONE", { hostname: "a.example.org" }],
      ),
    }),
    want: [
      "Accepted=True/ListenersNotValid",
      PROGRAMMED,
      "l0:Accepted=True/Accepted Conflicted=False/NoConflicts Programmed=True/Programmed ResolvedRefs=False/InvalidRouteKinds",
      "l1:Accepted=False/HostnameConflict Conflicted=True/HostnameConflict Programmed=False/Invalid ResolvedRefs=True/ResolvedRefs",
    ],
    addresses: [...IPS, HOSTNAME],
  },
  {
    name: "addresses of other types than Hostname",
    gateway: waypointGateway({
      spec: {
        addresses: [
          { type: "Hostname", value: "waypoint" },
          { type: "IPAddress", value: "192.0.2.1" },
        ],
      },
    }),
    want: ["Accepted=False/UnsupportedAddress", PROGRAMMED, FINE],
    addresses: [...IPS, HOSTNAME],
    message: /ignoring 192\.0\.2\.1/,
  },
  {
    name: "addresses of no use at all",
    gateway: waypointGateway({ spec: { addresses: [{ type: "example.org/x", value: "y" }] } }),
    services: [],
    want: ["Accepted=False/UnsupportedAddress", "Programmed=False/AddressNotUsable", WAITING],
    addresses: null,
  },
];

for (const c of CASES)
  test(`gateway status: ${c.name}`, () => {
    const { services = [READY], problem = null } = c;
    const status = gatewayStatus(c.gateway ?? waypointGateway(), { services, problem });
    const show = (of: readonly { type: string; status: string; reason?: string }[]): string[] =>
      of.map((x) => `${x.type}=${x.status}/${x.reason}`);
    assert.deepEqual(
      [
        ...show(status.conditions).filter((x) => x !== "ResolvedRefs=True/ResolvedRefs"),
        ...status.listeners.map((l) => `${l.name}:${show(l.conditions).join(" ")}`),
      ],
      c.want,
    );
    assert.deepEqual(status.addresses, c.addresses);
    assert.match(JSON.stringify(status).replaceAll('\\"', '"'), c.message ?? /./);
    for (const each of [...status.conditions, ...status.listeners.flatMap((l) => l.conditions)])
      assert.equal(each.observedGeneration, 1);
  });

for (const c of [
  { addresses: [], want: [["shop/waypoint", HOST]] },
  { addresses: [{ value: "192.0.2.1" }], want: [["shop/waypoint", HOST]] },
  {
    addresses: [{ type: "Hostname", value: "other" }],
    want: [["shop/other", "other.shop.svc.cluster.local"]],
  },
  {
    addresses: [
      { type: "Hostname", value: "a.infra.svc.cluster.local" },
      { type: "Hostname", value: "a.b.infra.svc.cluster.local" },
      { type: "Hostname", value: "www.example.org" },
      { type: "IPAddress", value: "192.0.2.1" },
    ],
    want: [
      ["infra/a", "a.infra.svc.cluster.local"],
      [null, "a.b.infra.svc.cluster.local"],
      [null, "www.example.org"],
    ],
  },
])
  test(`backing services of ${JSON.stringify(c.addresses)}`, () => {
    const found = backingServices(
      waypointGateway({ spec: { addresses: c.addresses } }),
      "cluster.local",
    );
    assert.deepEqual(
      found.map((f) => [f.key, f.hostname]),
      c.want,
    );
  });

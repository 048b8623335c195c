// Custom resources the API server must take or refuse under our definitions; specs as YAML. One table, so that what is
// refused can be read beside what is taken.

export interface Case {
  readonly name: string;
  readonly spec: string;
  /** Part of the refusal: it names the field and the fix. Absent: accepted. */
  readonly refusal?: RegExp;
}

const AUTHORIZATION_POLICY: readonly Case[] = [
  { name: "no spec fields: allow nothing", spec: "{}" },
  { name: "everything may pass", spec: "{rules: [{}]}" },
  {
    name: "callers and ports, for selected pods",
    spec: `
      selector: {matchLabels: {app: server}}
      action: DENY
      rules:
        - from: [{source: {notPrincipals: [cluster.local/ns/shop/sa/client], namespaces: ["shop*"]}}]
          to: [{operation: {ports: ["80", "65535"], notPorts: ["22"]}}]
          when: [{key: source.ip, notValues: [10.0.0.0/8]}]`,
  },
  {
    name: "addresses of both families, ranges and single",
    spec: `{rules: [{from: [{source: {ipBlocks: [10.0.0.1, 10.0.0.0/8, "fd00::1", "fd00::/8", 0.0.0.0/0]}}]}]}`,
  },
  {
    name: "service accounts, with and without namespace",
    spec: "{rules: [{from: [{source: {serviceAccounts: [client, shop/client]}}]}]}",
  },
  {
    name: "HTTP where a waypoint enforces it",
    spec: `
      targetRefs: [{kind: Service, group: "", name: server}]
      action: DENY
      rules:
        - to: [{operation: {methods: [DELETE], paths: ["/admin/{**}"], hosts: [server.shop]}}]
          when: [{key: "request.headers[x-version]", values: ["1"]}]`,
  },
  {
    name: "every kind of target",
    spec: `
      targetRefs:
        - {kind: Service, group: core, name: a}
        - {kind: ServiceEntry, group: networking.istio.io, name: b}
        - {kind: Gateway, group: gateway.networking.k8s.io, name: c}
        - {kind: GatewayClass, group: gateway.networking.k8s.io, name: istio-waypoint}
      rules: [{}]`,
  },
  { name: "the older targetRef", spec: "{targetRef: {kind: Service, name: server}, rules: [{}]}" },
  {
    name: "ALLOW with methods only, which node proxies turn into a refusal of everything",
    spec: "{rules: [{to: [{operation: {methods: [GET]}}]}]}",
  },
  {
    name: "a DENY whose other source is about the connection",
    spec: "{action: DENY, rules: [{from: [{source: {requestPrincipals: ['*']}}, {source: {namespaces: [x]}}]}]}",
  },
  {
    name: "a provider at a waypoint",
    spec: `
      targetRefs: [{kind: Service, name: server}]
      action: CUSTOM
      provider: {name: opa}
      rules: [{to: [{operation: {paths: [/admin*]}}]}]`,
  },
  {
    name: "claims of a token",
    spec: `
      targetRefs: [{kind: Service, name: server}]
      rules: [{when: [{key: "request.auth.claims[realm][roles]", values: [admin]}]}]`,
  },
  {
    name: "selector with targetRefs",
    spec: "{selector: {matchLabels: {a: b}}, targetRefs: [{kind: Service, name: s}]}",
    refusal: /spec: .*selector, targetRef and targetRefs exclude one another/,
  },
  {
    name: "a target in another namespace",
    spec: "{targetRefs: [{kind: Service, name: s, namespace: other}]}",
    refusal: /targetRefs\[0\]\.namespace: .*create the policy in the namespace of its target/,
  },
  {
    name: "a target no waypoint serves",
    spec: "{targetRefs: [{kind: Deployment, group: apps, name: s}]}",
    refusal: /targetRefs\[0\]: .*kind and group must be Service/,
  },
  {
    name: "a Gateway without its group",
    spec: "{targetRefs: [{kind: Gateway, name: s}]}",
    refusal: /targetRefs\[0\]: .*gateway\.networking\.k8s\.io/,
  },
  {
    name: "a class that is not of waypoints",
    spec: "{targetRefs: [{kind: GatewayClass, group: gateway.networking.k8s.io, name: istio}]}",
    refusal: /targetRefs\[0\]: .*must be istio-waypoint/,
  },
  {
    name: "a target without name",
    spec: '{targetRefs: [{kind: Service, name: ""}]}',
    refusal: /targetRefs\[0\]\.name/,
  },
  {
    name: "DENY without rules",
    spec: "{action: DENY}",
    refusal: /spec: .*rules must be given for DENY/,
  },
  {
    name: "DENY with no rules in the list",
    spec: "{action: DENY, rules: []}",
    refusal: /rules must be given for DENY/,
  },
  {
    name: "DENY by method where no waypoint is named",
    spec: "{selector: {matchLabels: {a: b}}, action: DENY, rules: [{to: [{operation: {methods: [GET]}}]}]}",
    refusal: /spec: .*to of a DENY without targetRefs.*Use ports, or name what a waypoint serves/,
  },
  {
    name: "DENY of callers by method: the method empties the rule",
    spec: "{action: DENY, rules: [{from: [{source: {namespaces: [x]}}], to: [{operation: {paths: [/a]}}]}]}",
    refusal: /to of a DENY without targetRefs/,
  },
  {
    name: "DENY by token where no waypoint is named",
    spec: "{action: DENY, rules: [{from: [{source: {notRequestPrincipals: ['*']}}]}]}",
    refusal: /from of a DENY without targetRefs.*Use principals/,
  },
  {
    name: "DENY by header where no waypoint is named",
    spec: "{action: DENY, rules: [{}, {when: [{key: 'request.headers[a]', values: [b]}]}]}",
    refusal: /when of a DENY without targetRefs.*source\.ip/,
  },
  {
    name: "service accounts beside namespaces",
    spec: "{rules: [{from: [{source: {serviceAccounts: [a], namespaces: [b]}}]}]}",
    refusal: /from\[0\]\.source: .*remove principals and namespaces/,
  },
  {
    name: "a service account with a wildcard",
    spec: "{rules: [{from: [{source: {serviceAccounts: ['shop/*']}}]}]}",
    refusal: /serviceAccounts\[0\]/,
  },
  {
    name: "from without callers",
    spec: "{rules: [{from: []}]}",
    refusal: /rules\[0\]: .*from is empty: list callers, or remove it/,
  },
  {
    name: "to without operations",
    spec: "{rules: [{to: []}]}",
    refusal: /rules\[0\]: .*to is empty: list operations, or remove it/,
  },
  {
    name: "an empty source",
    spec: "{rules: [{from: [{source: {}}]}]}",
    refusal: /from\[0\]\.source: .*at least 1 properties/,
  },
  {
    name: "an empty operation",
    spec: "{rules: [{to: [{operation: {}}]}]}",
    refusal: /to\[0\]\.operation: .*at least 1 properties/,
  },
  {
    name: "a caller without source",
    spec: "{rules: [{from: [{}]}]}",
    refusal: /from\[0\]\.source: Required/,
  },
  {
    name: "a port that is none",
    spec: '{rules: [{to: [{operation: {ports: ["65536"]}}]}]}',
    refusal: /ports\[0\]: Invalid value: "65536"/,
  },
  {
    name: "a port by name",
    spec: "{rules: [{to: [{operation: {ports: [http]}}]}]}",
    refusal: /ports\[0\]: Invalid value: "http"/,
  },
  {
    name: "an address that is none",
    spec: "{rules: [{from: [{source: {ipBlocks: [10.0.0.300]}}]}]}",
    refusal: /ipBlocks\[0\].*(ipv4|cidr)/s,
  },
  {
    name: "a range with too long a mask",
    spec: "{rules: [{from: [{source: {notIpBlocks: [10.0.0.0/33]}}]}]}",
    refusal: /notIpBlocks\[0\]/,
  },
  {
    name: "a principal as certificates have it",
    spec: "{rules: [{from: [{source: {principals: ['spiffe://cluster.local/ns/a/sa/b']}}]}]}",
    refusal: /principals\[0\]/,
  },
  {
    name: "a condition on something unknown",
    spec: "{rules: [{when: [{key: request.header, values: [a]}]}]}",
    refusal: /when\[0\]\.key: Invalid value: "request.header"/,
  },
  {
    name: "a condition without values",
    spec: "{rules: [{when: [{key: source.ip}]}]}",
    refusal: /when\[0\]: .*values or notValues must be given/,
  },
  {
    name: "CUSTOM without provider",
    spec: "{targetRefs: [{kind: Service, name: s}], action: CUSTOM, rules: [{}]}",
    refusal: /spec: .*provider\.name must name an extension provider/,
  },
  {
    name: "a provider for ALLOW",
    spec: "{provider: {name: opa}, rules: [{}]}",
    refusal: /spec: .*provider is for action CUSTOM only/,
  },
  {
    name: "CUSTOM where no waypoint is named",
    spec: "{action: CUSTOM, provider: {name: opa}, rules: [{}]}",
    refusal: /carried out by waypoints only: name what the waypoint serves in targetRefs/,
  },
  {
    name: "CUSTOM by identity",
    spec: "{targetRefs: [{kind: Service, name: s}], action: CUSTOM, provider: {name: opa}, rules: [{from: [{source: {principals: [a]}}]}]}",
    refusal: /rules of CUSTOM cannot look at identities/,
  },
  {
    name: "a wildcard in a selector",
    spec: "{selector: {matchLabels: {app: 'a*'}}}",
    refusal: /matchLabels\[?.*takes whole values/,
  },
  {
    name: "an unknown action",
    spec: "{action: BLOCK}",
    refusal: /action: Unsupported value: "BLOCK"/,
  },
];

const PEER_AUTHENTICATION: readonly Case[] = [
  { name: "nothing", spec: "{}" },
  { name: "for a namespace", spec: "{mtls: {mode: STRICT}}" },
  {
    name: "exceptions by port",
    spec: "{selector: {matchLabels: {a: b}}, mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: DISABLE}, 65535: {}}}",
  },
  {
    name: "ports without selector",
    spec: "{portLevelMtls: {80: {mode: STRICT}}}",
    refusal: /spec: .*portLevelMtls needs selector\.matchLabels/,
  },
  {
    name: "ports with an empty selector",
    spec: "{selector: {}, portLevelMtls: {80: {mode: STRICT}}}",
    refusal: /portLevelMtls needs selector\.matchLabels/,
  },
  {
    name: "no ports",
    spec: "{selector: {matchLabels: {a: b}}, portLevelMtls: {}}",
    refusal: /portLevelMtls: .*at least 1 properties/,
  },
  ...["0", "65536", "http", "-1"].map((port) => ({
    name: `port ${port}`,
    spec: `{selector: {matchLabels: {a: b}}, portLevelMtls: {"${port}": {mode: STRICT}}}`,
    refusal: /portLevelMtls: .*port numbers from 1 to 65535/,
  })),
  { name: "an unknown mode", spec: "{mtls: {mode: ON}}", refusal: /mtls\.mode: Unsupported value/ },
];

const REQUEST_AUTHENTICATION: readonly Case[] = [
  {
    name: "an issuer for a service",
    spec: `
      targetRefs: [{kind: Service, name: s}]
      jwtRules:
        - issuer: https://issuer.example
          jwksUri: https://issuer.example/keys
          audiences: [shop]
          fromHeaders: [{name: x-token, prefix: "Bearer "}]
          outputClaimToHeaders: [{header: x-sub, claim: sub}]
          timeout: 5s`,
  },
  {
    name: "a selector, which nobody carries out",
    spec: "{selector: {matchLabels: {a: b}}, jwtRules: [{issuer: a}]}",
    refusal: /spec: .*targetRefs must name what a waypoint serves/,
  },
  {
    name: "keys twice",
    spec: "{targetRefs: [{kind: Service, name: s}], jwtRules: [{issuer: a, jwks: b, jwksUri: 'https://c'}]}",
    refusal: /jwtRules\[0\]: .*exclude one another/,
  },
  {
    name: "keys from somewhere else",
    spec: "{targetRefs: [{kind: Service, name: s}], jwtRules: [{issuer: a, jwksUri: 'file:///keys'}]}",
    refusal: /jwksUri: .*begins with https/,
  },
  {
    name: "neither issuer nor keys",
    spec: "{targetRefs: [{kind: Service, name: s}], jwtRules: [{audiences: [a]}]}",
    refusal: /jwtRules\[0\]: .*issuer is missing/,
  },
  {
    name: "no time",
    spec: "{targetRefs: [{kind: Service, name: s}], jwtRules: [{issuer: a, timeout: 0s}]}",
    refusal: /timeout: .*at least 1ms/,
  },
];

const PORT = "{number: 80, name: http, protocol: HTTP}";
const SERVICE_ENTRY: readonly Case[] = [
  {
    name: "a host outside, found by DNS",
    spec: `
      hosts: [api.example.com]
      ports: [{number: 443, name: tls, protocol: TLS, targetPort: 8443}]
      resolution: DNS
      location: MESH_EXTERNAL
      endpoints: [{address: eu.example.com, locality: eu/west, weight: 2, ports: {tls: 9443}}]`,
  },
  {
    name: "virtual machines by label",
    spec: `{hosts: [vm.internal], ports: [${PORT}], resolution: STATIC, workloadSelector: {labels: {app: vm}}}`,
  },
  {
    name: "ranges, as the client resolves them",
    spec: `{hosts: ["*.example.com"], addresses: [10.0.0.0/8, "fd00::/8"], ports: [${PORT}], resolution: NONE}`,
  },
  {
    name: "an endpoint on another network",
    spec: `{hosts: [a.b], ports: [${PORT}], resolution: STATIC, endpoints: [{network: n2}, {address: "fd00::1"}]}`,
  },
  {
    name: "names from requests",
    spec: "{hosts: ['*.example.com'], ports: [{number: 443, name: t, protocol: tls}], resolution: DYNAMIC_DNS}",
  },
  { name: "no host", spec: `{hosts: [], ports: [${PORT}]}`, refusal: /spec\.hosts: .*at least 1/ },
  {
    name: "every host",
    spec: `{hosts: ["*"], ports: [${PORT}]}`,
    refusal: /hosts\[0\]: .*hosts cannot be '\*'/,
  },
  {
    name: "selected and listed",
    spec: `{hosts: [a.b], resolution: STATIC, workloadSelector: {labels: {a: b}}, endpoints: [{address: 1.2.3.4}]}`,
    refusal: /spec: .*workloadSelector and endpoints exclude/,
  },
  {
    name: "endpoints nobody asks for",
    spec: "{hosts: [a.b], endpoints: [{address: 1.2.3.4}]}",
    refusal: /endpoints are not used with resolution NONE \(the default\): set resolution STATIC/,
  },
  {
    name: "a range for DNS",
    spec: "{hosts: [a.b], addresses: [10.0.0.0/8], resolution: DNS}",
    refusal: /addresses can be ranges for resolution NONE and STATIC only/,
  },
  {
    name: "an address that is none",
    spec: "{hosts: [a.b], addresses: [10.0.0.300], resolution: STATIC}",
    refusal: /addresses\[0\]: .*must be IP addresses/,
  },
  {
    name: "a port number twice",
    spec: `{hosts: [a.b], ports: [${PORT}, {number: 80, name: other}]}`,
    refusal: /ports: .*same number twice/,
  },
  {
    name: "a port name twice",
    spec: `{hosts: [a.b], ports: [${PORT}, {number: 81, name: http}]}`,
    refusal: /ports: .*same name twice/,
  },
  {
    name: "a port that is none",
    spec: "{hosts: [a.b], ports: [{number: 0, name: a}]}",
    refusal: /ports\[0\]\.number/,
  },
  {
    name: "several endpoints in turn",
    spec: "{hosts: [a.b], resolution: DNS_ROUND_ROBIN, endpoints: [{address: a.c}, {address: a.d}]}",
    refusal: /endpoints can be one at most/,
  },
  {
    name: "a socket",
    spec: "{hosts: [a.b], resolution: STATIC, endpoints: [{address: 'unix:///tmp/s'}]}",
    refusal: /endpoints\[0\]\.address: .*cannot be a Unix socket/,
  },
  {
    name: "an endpoint with a port in its address",
    spec: "{hosts: [a.b], resolution: STATIC, endpoints: [{address: '1.2.3.4:80'}]}",
    refusal: /endpoints\[0\]\.address: .*without mask or port/,
  },
  {
    name: "an endpoint that is nowhere",
    spec: "{hosts: [a.b], resolution: STATIC, endpoints: [{labels: {a: b}}]}",
    refusal: /endpoints\[0\]: .*address is missing/,
  },
  {
    name: "one name from requests",
    spec: "{hosts: [a.b], ports: [{number: 443, name: t, protocol: TLS}], resolution: DYNAMIC_DNS}",
    refusal: /hosts must be wildcards/,
  },
  {
    name: "names from requests of no protocol that has any",
    spec: "{hosts: ['*.a.b'], ports: [{number: 443, name: t, protocol: TCP}], resolution: DYNAMIC_DNS}",
    refusal: /ports must have protocol HTTP/,
  },
  {
    name: "addresses for names from requests",
    spec: "{hosts: ['*.a.b'], addresses: [1.2.3.4], resolution: DYNAMIC_DNS}",
    refusal: /addresses and endpoints must be left out/,
  },
];

const WORKLOAD_ENTRY: readonly Case[] = [
  {
    name: "a virtual machine",
    spec: "{address: 192.0.2.7, ports: {http: 8080}, labels: {app: vm}, serviceAccount: vm, weight: 3}",
  },
  { name: "a name", spec: "{address: vm-7.example.com}" },
  { name: "behind a gateway", spec: "{network: n2}" },
  { name: "nowhere", spec: "{labels: {a: b}}", refusal: /spec: .*address is missing/ },
  ...["10.0.0.300", "10.0.0.0/8", "192.0.2.7:80", ""].map((address) => ({
    name: `address ${JSON.stringify(address)}`,
    spec: `{address: ${JSON.stringify(address)}}`,
    refusal: /spec\.address: .*must be an IP address/,
  })),
  { name: "port 0", spec: "{address: 192.0.2.7, ports: {http: 0}}", refusal: /spec\.ports\.http/ },
  {
    name: "a port name no Service has",
    spec: "{address: 192.0.2.7, ports: {a_b: 80}}",
    refusal: /spec\.ports: .*names of service ports/,
  },
];

/** By `group/version/plural`, kind after a space. */
export const CASES: Readonly<Record<string, readonly Case[]>> = {
  "security.istio.io/v1/authorizationpolicies AuthorizationPolicy": AUTHORIZATION_POLICY,
  "security.istio.io/v1/peerauthentications PeerAuthentication": PEER_AUTHENTICATION,
  "security.istio.io/v1/requestauthentications RequestAuthentication": REQUEST_AUTHENTICATION,
  "networking.istio.io/v1/serviceentries ServiceEntry": SERVICE_ENTRY,
  "networking.istio.io/v1/workloadentries WorkloadEntry": WORKLOAD_ENTRY,
};

// Policies people write, and what they do to a pod of the mesh.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { NetworkPolicy } from "./installed-objects.ts";
import { policyFindings } from "./network-policy.ts";
import type { Pod } from "./objects.ts";

const POD: Pod = {
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: "cart-0", namespace: "shop", labels: { app: "cart" } },
  spec: { containers: [{ name: "c", ports: [{ name: "mesh", containerPort: 15_008 }] }] },
};

function policy(
  name: string,
  spec: NonNullable<NetworkPolicy["spec"]>,
  namespace = "shop",
): NetworkPolicy {
  return {
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { name, namespace },
    spec: { podSelector: {}, ...spec },
  };
}

const shop = { namespaceSelector: { matchLabels: { team: "shop" } } };
const web = { podSelector: { matchLabels: { app: "web" } } };

interface Case {
  readonly name: string;
  readonly policies: readonly NetworkPolicy[];
  /** `direction kind: policies`. */
  readonly want: readonly string[];
}

const CASES: readonly Case[] = [
  { name: "no policy", policies: [], want: [] },
  { name: "another namespace's", policies: [policy("deny", {}, "other")], want: [] },
  {
    name: "other pods'",
    policies: [policy("deny", { podSelector: { matchLabels: { app: "web" } } })],
    want: [],
  },
  {
    name: "default deny",
    policies: [policy("deny", { policyTypes: ["Ingress", "Egress"] })],
    want: ["ingress everything refused: deny", "egress everything refused: deny"],
  },
  { name: "everything let in", policies: [policy("open", { ingress: [{}] })], want: [] },
  {
    name: "peers, no ports",
    policies: [policy("web", { ingress: [{ from: [web] }] })],
    want: [],
  },
  {
    name: "the application's port alone",
    policies: [policy("web", { ingress: [{ ports: [{ port: 8080 }], from: [web] }] })],
    want: ["ingress mesh port refused: web"],
  },
  {
    name: "the application's port, HBONE in another policy for everyone",
    policies: [
      policy("web", { ingress: [{ ports: [{ port: 8080 }], from: [web] }] }),
      policy("mesh", { ingress: [{ ports: [{ port: 15_008 }] }] }),
    ],
    want: [],
  },
  {
    name: "HBONE for others only",
    policies: [
      policy("web", { ingress: [{ ports: [{ port: 8080 }], from: [web] }] }),
      policy("mesh", { ingress: [{ ports: [{ port: 15_008 }], from: [shop] }] }),
    ],
    want: ["ingress mesh port refused: web"],
  },
  {
    name: "HBONE for the same peers",
    policies: [
      policy("web", { ingress: [{ ports: [{ port: 8080 }], from: [web] }] }),
      policy("mesh", { ingress: [{ ports: [{ port: 15_008 }], from: [shop, web] }] }),
    ],
    want: [],
  },
  {
    name: "HBONE for every pod of every namespace",
    policies: [
      policy("web", { ingress: [{ ports: [{ port: 8080 }] }] }),
      policy("mesh", {
        ingress: [{ ports: [{ port: 15_008 }], from: [{ namespaceSelector: {} }] }],
      }),
    ],
    want: [],
  },
  {
    name: "a range, a name, UDP",
    policies: [
      policy("range", { ingress: [{ ports: [{ port: 15_000, endPort: 15_100 }] }] }),
      policy("udp", { ingress: [{ ports: [{ protocol: "UDP", port: 53 }] }] }),
    ],
    want: [],
  },
  {
    name: "a port's name of the pod",
    policies: [policy("named", { ingress: [{ ports: [{ port: "mesh" }] }] })],
    want: [],
  },
  {
    name: "another name",
    policies: [policy("named", { ingress: [{ ports: [{ port: "http" }] }] })],
    want: ["ingress mesh port refused: named"],
  },
  {
    name: "15008 over UDP does not help",
    policies: [
      policy("udp", {
        ingress: [{ ports: [{ protocol: "UDP", port: 15_008 }, { port: 80 }] }],
      }),
    ],
    want: ["ingress mesh port refused: udp"],
  },
  {
    name: "from outside the cluster",
    policies: [
      policy("world", {
        ingress: [{ ports: [{ port: 443 }], from: [{ ipBlock: { cidr: "203.0.113.0/24" } }] }],
      }),
    ],
    want: [],
  },
  {
    name: "everybody's addresses",
    policies: [
      policy("world", {
        ingress: [{ ports: [{ port: 443 }], from: [{ ipBlock: { cidr: "0.0.0.0/0" } }] }],
      }),
    ],
    want: ["ingress mesh port refused: world"],
  },
  {
    name: "egress by rules alone, DNS left alone",
    policies: [
      policy("out", {
        egress: [
          { ports: [{ port: 53, protocol: "UDP" }, { port: 53 }] },
          { ports: [{ port: 8080 }], to: [web] },
        ],
        ingress: [{}],
      }),
    ],
    want: ["egress mesh port refused: out"],
  },
  {
    name: "egress to DNS only",
    policies: [
      policy("dns", {
        policyTypes: ["Egress"],
        egress: [{ ports: [{ port: 53, protocol: "UDP" }] }],
      }),
    ],
    want: ["egress everything refused: dns"],
  },
  {
    name: "a selector that cannot be",
    policies: [
      policy("odd", {
        podSelector: { matchExpressions: [{ key: "a", operator: "In", values: [] }] },
      }),
    ],
    want: [],
  },
];

for (const { name, policies, want } of CASES)
  test(`network policy: ${name}`, () =>
    assert.deepEqual(
      policyFindings(policies, POD).map(
        (f) => `${f.direction} ${f.kind}: ${f.policies.join(", ")}`,
      ),
      want,
    ));

test("a finding names policy, pod and port", () => {
  const [finding] = policyFindings(
    [policy("web", { ingress: [{ ports: [{ port: 8080 }] }] })],
    POD,
  );
  assert.match(finding?.text ?? "", /web.*shop\/cart-0.*15008/);
});

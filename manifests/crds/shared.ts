// Parts that several kinds have in common: selectors, references to what a policy is about, status.
import { integer, list, map, object, type Rule, type Schema, text } from "./schema.ts";

export const PORT_RANGE = { minimum: 1, maximum: 65_535 };

const NAME = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
/** `account`, of the policy's namespace, or `namespace/account`. */
export const ACCOUNT = `^(${NAME}/)?${NAME}(\\.${NAME})*$`;
/** A port number as text. */
export const PORT_TEXT =
  "^([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])$";

/** An address or a range. Formats, not CEL: the rule would be counted once per possible list entry. */
export const IP_BLOCK = text("An address such as 10.1.2.3, or a range such as 10.1.0.0/16.", {
  anyOf: [{ format: "ipv4" }, { format: "ipv6" }, { format: "cidr" }],
});

/** What a workload's address may be, for `address` of WorkloadEntries and endpoints. */
export const ADDRESS = text("IP address or DNS name at which the workload is reached.", {
  maxLength: 256,
  rules: [
    {
      rule: "!self.startsWith('unix://')",
      message: "address cannot be a Unix socket: give an IP address or a DNS name",
    },
    {
      // at least one letter: numbers alone would be an address that is wrong
      rule: "isIP(self) || self.startsWith('unix://') || self.matches('^[-._A-Za-z0-9]*[A-Za-z][-._A-Za-z0-9]*$')",
      message: "address must be an IP address without mask or port, or a DNS name",
    },
  ],
});

export const SELECTOR = object("The pods this is about, by their labels.", {
  matchLabels: map(
    "Labels a pod must have, all of them.",
    text("Value of the label.", {
      maxLength: 63,
      rules: [
        {
          rule: "!self.contains('*')",
          message:
            "selector.matchLabels takes whole values: '*' matches nothing, leave the label out",
        },
      ],
    }),
    {
      maxProperties: 4096,
      rules: [
        {
          rule: "self.all(key, key != '' && !key.contains('*'))",
          message: "selector.matchLabels takes whole label names, neither empty nor with '*'",
        },
      ],
    },
  ),
});

const TARGET_KINDS = [
  "(!has(self.group) || self.group in ['', 'core']) && self.kind == 'Service'",
  "has(self.group) && self.group == 'networking.istio.io' && self.kind == 'ServiceEntry'",
  "has(self.group) && self.group == 'gateway.networking.k8s.io' && self.kind in ['Gateway', 'GatewayClass']",
];

const TARGET = object(
  "An object whose waypoint carries this out.",
  {
    group: text("API group; empty for Services.", {
      maxLength: 253,
      pattern: "^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    }),
    kind: text("Service, ServiceEntry, Gateway or GatewayClass.", { minLength: 1, maxLength: 63 }),
    name: text("Name of the object.", { minLength: 1, maxLength: 253 }),
    namespace: text("Not supported: the target is in the namespace of the policy.", {
      rules: [
        {
          rule: "self == ''",
          message: "namespace must be left out: create the policy in the namespace of its target",
        },
      ],
    }),
  },
  {
    required: ["kind", "name"],
    rules: [
      {
        rule: TARGET_KINDS.map((kind) => `(${kind})`).join(" || "),
        message:
          'kind and group must be Service (group ""), ServiceEntry (networking.istio.io), Gateway or GatewayClass (gateway.networking.k8s.io)',
      },
      {
        rule: "self.kind != 'GatewayClass' || self.name == 'istio-waypoint'",
        message: "name of a GatewayClass must be istio-waypoint, the class of waypoints",
      },
    ],
  },
);

/** The one fields and the many, as kinds that attach to waypoints have them. */
export const TARGETS: Readonly<Record<"targetRef" | "targetRefs", Schema>> = {
  targetRef: { ...TARGET, description: "One target; older form of targetRefs." },
  targetRefs: list("Objects of this namespace whose waypoints carry this out.", TARGET, {
    maxItems: 16,
  }),
};

/** CEL: whether a waypoint is named. */
export const HAS_TARGETS =
  "(has(self.targetRef) || has(self.targetRefs) && size(self.targetRefs) > 0)";

export const SELECTOR_OR_TARGETS: Rule = {
  rule: "(has(self.selector) ? 1 : 0) + (has(self.targetRef) ? 1 : 0) + (has(self.targetRefs) ? 1 : 0) <= 1",
  message:
    "selector, targetRef and targetRefs exclude one another: keep selector for pods (node proxies carry it out) or targetRefs for waypoints",
};

/** Fields beside these stay: other versions and Istio's own programs write some. */
export function status(further: Readonly<Record<string, Schema>> = {}): Schema {
  return object(
    "What became of this object; written by the control plane.",
    {
      conditions: list(
        "One entry per question, by type.",
        object(
          "The answer to one question.",
          {
            type: text("The question, such as ZtunnelAccepted."),
            status: text("True, False or Unknown."),
            reason: text("The answer in one word, for programs."),
            message: text("The answer in a sentence, for people."),
            observedGeneration: {
              description: "Generation of the object the answer is about.",
              anyOf: [{ type: "integer" }, { type: "string" }],
              "x-kubernetes-int-or-string": true,
            },
            lastTransitionTime: text("When the status last changed.", { format: "date-time" }),
            lastProbeTime: text("When the question was last asked.", { format: "date-time" }),
          },
          { required: ["type"] },
        ),
        // each writer owns its types and leaves those of others
        { "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"] },
      ),
      observedGeneration: {
        description: "Generation of the object that was last looked at.",
        anyOf: [{ type: "integer" }, { type: "string" }],
        "x-kubernetes-int-or-string": true,
      },
      ...further,
    },
    { "x-kubernetes-preserve-unknown-fields": true },
  );
}

/** What WorkloadEntries and inline endpoints of ServiceEntries share. */
export const WORKLOAD_FIELDS: Readonly<Record<string, Schema>> = {
  address: ADDRESS,
  ports: map(
    "Ports that differ from the service's, by the name of the service port.",
    integer("Port on the workload.", PORT_RANGE),
    {
      maxProperties: 128,
      rules: [
        {
          rule: "self.all(key, size(key) < 63 && key.matches('^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?$'))",
          message: "ports has names of service ports as keys: letters, digits and '-', at most 62",
        },
      ],
    },
  ),
  labels: map("Labels, as a pod would have them.", text("Value of the label."), {
    maxProperties: 256,
  }),
  network: text("Network the address belongs to; empty is the cluster's own.", { maxLength: 2048 }),
  locality: text("Where it runs, as region/zone/subzone.", { maxLength: 2048 }),
  weight: integer("Its share of the load, beside the weights of others.", {
    minimum: 0,
    maximum: 4_294_967_295,
  }),
  serviceAccount: text("Service account of this namespace it identifies itself with.", {
    maxLength: 253,
  }),
};

export const WORKLOAD_RULES: readonly Rule[] = [
  {
    rule: "has(self.address) || has(self.network)",
    message:
      "address is missing: give an IP address or a DNS name, or the network it is reached through",
  },
];

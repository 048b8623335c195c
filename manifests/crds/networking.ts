// networking.istio.io: services and workloads the cluster does not know by itself.
import type { Kind } from "./definition.ts";
import { integer, list, map, object, text, word } from "./schema.ts";
import { PORT_RANGE, status, WORKLOAD_FIELDS, WORKLOAD_RULES } from "./shared.ts";

const VERSIONS = ["v1", "v1beta1", "v1alpha3"];
const RESOLUTION = "(has(self.resolution) ? self.resolution : 'NONE')";

const ENDPOINT = object("Where the service is served.", WORKLOAD_FIELDS, { rules: WORKLOAD_RULES });

const SERVICE_PORT = object(
  "One port of the service.",
  {
    number: integer("The port clients call.", PORT_RANGE),
    name: text("Its name; its beginning may name the protocol, as in http-web.", {
      maxLength: 256,
    }),
    protocol: text("HTTP, HTTP2, GRPC, HTTPS, TLS, TCP and the like.", { maxLength: 256 }),
    targetPort: integer("The port of the endpoints, where it is another.", PORT_RANGE),
  },
  { required: ["number", "name"] },
);

export const SERVICE_ENTRY: Kind = {
  group: "networking.istio.io",
  kind: "ServiceEntry",
  plural: "serviceentries",
  shortNames: ["se"],
  versions: VERSIONS,
  description:
    "Makes hosts outside the cluster, or workloads without a Service, known to the mesh.",
  isSpecRequired: true,
  columns: { Hosts: ".spec.hosts", Location: ".spec.location", Resolution: ".spec.resolution" },
  spec: object(
    "The service and where it is served.",
    {
      hosts: list(
        "Names of the service; *.example.com stands for every name below.",
        text("One name.", {
          rules: [
            {
              rule: "self != '*'",
              message: "hosts cannot be '*', every name there is: give names, or *.example.com",
            },
          ],
        }),
        { minItems: 1, maxItems: 256 },
      ),
      addresses: list(
        "Virtual addresses of the service; without any, one is given to each host.",
        text("An address or, for resolution NONE and STATIC, a range.", {
          maxLength: 64,
          rules: [
            {
              rule: "isIP(self) || isCIDR(self)",
              message:
                "addresses must be IP addresses such as 10.1.2.3 or ranges such as 10.1.0.0/16",
            },
          ],
        }),
        { maxItems: 256 },
      ),
      ports: list("What clients call.", SERVICE_PORT, {
        maxItems: 256,
        rules: [
          {
            rule: "self.all(a, self.exists_one(b, a.number == b.number))",
            message: "ports have the same number twice: remove one",
          },
          {
            rule: "self.all(a, self.exists_one(b, a.name == b.name))",
            message: "ports have the same name twice: rename one",
          },
        ],
      }),
      location: word(
        "Whether the endpoints are part of the mesh.",
        "MESH_EXTERNAL",
        "MESH_INTERNAL",
      ),
      resolution: word(
        "How endpoints are found: NONE, where the client's connection goes; STATIC, as listed or selected; DNS.",
        "NONE",
        "STATIC",
        "DNS",
        "DNS_ROUND_ROBIN",
        "DYNAMIC_DNS",
      ),
      endpoints: list("Where the service is served.", ENDPOINT, { maxItems: 4096 }),
      workloadSelector: object("Pods and WorkloadEntries that serve it.", {
        labels: map(
          "Labels they have, all of them.",
          text("Value of the label.", {
            maxLength: 63,
            rules: [
              {
                rule: "!self.contains('*')",
                message:
                  "workloadSelector.labels takes whole values: '*' matches nothing, leave the label out",
              },
            ],
          }),
          { maxProperties: 256 },
        ),
      }),
      exportTo: list(
        "Namespaces that see the service; '*' for all, '.' for this one.",
        text("One namespace."),
      ),
      subjectAltNames: list("Identities the endpoints may have.", text("One identity.")),
    },
    {
      required: ["hosts"],
      rules: [
        {
          rule: "!(has(self.workloadSelector) && has(self.endpoints))",
          message:
            "workloadSelector and endpoints exclude one another: select workloads or list them",
        },
        {
          rule: `${RESOLUTION} in ['NONE', 'STATIC'] || !has(self.addresses) || !self.addresses.exists(a, a.contains('/'))`,
          message:
            "addresses can be ranges for resolution NONE and STATIC only: give single addresses",
        },
        {
          rule: `${RESOLUTION} != 'NONE' || !has(self.endpoints)`,
          message:
            "endpoints are not used with resolution NONE (the default): set resolution STATIC or DNS, or remove them",
        },
        {
          rule: `${RESOLUTION} != 'DNS_ROUND_ROBIN' || !has(self.endpoints) || size(self.endpoints) <= 1`,
          message:
            "endpoints can be one at most for resolution DNS_ROUND_ROBIN: use DNS for several",
        },
        {
          rule: `${RESOLUTION} != 'DYNAMIC_DNS' || self.hosts.all(h, h.startsWith('*.'))`,
          message: "hosts must be wildcards such as *.example.com for resolution DYNAMIC_DNS",
        },
        {
          rule: `${RESOLUTION} != 'DYNAMIC_DNS' || (!has(self.addresses) || size(self.addresses) == 0) && (!has(self.endpoints) || size(self.endpoints) == 0)`,
          message:
            "addresses and endpoints must be left out for resolution DYNAMIC_DNS: each name has its own",
        },
        {
          rule: `${RESOLUTION} != 'DYNAMIC_DNS' || !has(self.ports) || self.ports.all(p, has(p.protocol) && p.protocol.upperAscii() in ['HTTP', 'HTTP2', 'GRPC', 'HTTPS', 'TLS'])`,
          message:
            "ports must have protocol HTTP, HTTP2, GRPC, HTTPS or TLS for resolution DYNAMIC_DNS: the name is in the request",
        },
      ],
    },
  ),
  status: status({
    addresses: list(
      "Addresses given to hosts that have none.",
      object(
        "One address.",
        { value: text("The address."), host: text("The host it is for.") },
        { required: ["value"] },
      ),
    ),
  }),
};

export const WORKLOAD_ENTRY: Kind = {
  group: "networking.istio.io",
  kind: "WorkloadEntry",
  plural: "workloadentries",
  shortNames: ["we"],
  versions: VERSIONS,
  description: "A workload that is no pod, such as a virtual machine.",
  isSpecRequired: true,
  columns: { Address: ".spec.address" },
  spec: object("Where it is reached and how it identifies itself.", WORKLOAD_FIELDS, {
    rules: WORKLOAD_RULES,
  }),
  status: status(),
};

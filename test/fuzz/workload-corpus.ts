// Valid resources of the Workload API, as starting points.
import { Authorization } from "#lib/wire/gen/authorization.gen.ts";
import { Address, PortList, Workload } from "#lib/wire/gen/workload.gen.ts";

export function addressCorpus(): Uint8Array[] {
  return [
    Address.encode({
      type: {
        $case: "workload",
        value: {
          ...Workload.create({
            uid: "Kubernetes//Pod/default/echo-1",
            name: "echo-1",
            namespace: "default",
            addresses: [Buffer.of(10, 0, 3, 7)],
            tunnelProtocol: 1,
            trustDomain: "cluster.local",
            serviceAccount: "echo",
            node: "a",
            canonicalName: "echo",
            canonicalRevision: "v1",
            workloadName: "echo-v1",
            clusterId: "Kubernetes",
            locality: { region: "r", zone: "z", subzone: "s" },
            authorizationPolicies: ["default/deny"],
          }),
          services: new Map([
            [
              "default/echo.default.svc.cluster.local",
              PortList.create({ ports: [{ servicePort: 80, targetPort: 8080 }] }),
            ],
          ]),
        },
      },
    }).finish(),
    Address.encode(
      Address.create({
        type: {
          $case: "service",
          value: {
            name: "echo",
            namespace: "default",
            hostname: "echo.default.svc.cluster.local",
            addresses: [{ network: "", address: Buffer.of(10, 96, 0, 1) }],
            ports: [{ servicePort: 80, targetPort: 8080 }],
            waypoint: {
              destination: {
                $case: "hostname",
                value: { namespace: "default", hostname: "waypoint.default.svc.cluster.local" },
              },
              hboneMtlsPort: 15_008,
            },
            loadBalancing: { routingPreference: [1, 2, 3], mode: 2, healthPolicy: 1 },
          },
        },
      }),
    ).finish(),
  ];
}

export function authorizationCorpus(): Uint8Array[] {
  return [
    Authorization.encode(
      Authorization.create({
        name: "deny",
        namespace: "default",
        scope: 1,
        action: 1,
        groups: [
          {
            rules: [
              {
                matches: [
                  {
                    namespaces: [{ matchType: { $case: "exact", value: "prod" } }],
                    notPrincipals: [{ matchType: { $case: "prefix", value: "cluster.local/" } }],
                    sourceIps: [{ address: Buffer.of(10, 0, 0, 0), length: 8 }],
                    destinationPorts: [80, 443],
                  },
                ],
              },
            ],
          },
        ],
      }),
    ).finish(),
  ];
}

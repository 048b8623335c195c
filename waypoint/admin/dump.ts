// `/config_dump`: all this waypoint knows, in the shape of a node proxy's, with the policies attached to waypoints.
import { dumpTables } from "#lib/model/config-dump.ts";
import type { WaypointPolicy } from "#lib/model/waypoint-policy.ts";
import type { CertificateManager } from "#lib/pki/certificate-manager.ts";
import { dumpCertificates } from "#lib/pki/certificates-dump.ts";
import { dumpConfig } from "../config.ts";
import type { WaypointContext } from "../context.ts";

const VERSION = "0.1.0";

export function configDump(context: WaypointContext, certificates: CertificateManager): string {
  const { config, tables, policies, live } = context;
  const dump = {
    ...dumpTables(tables),
    certificates: dumpCertificates(certificates.views()),
    config: dumpConfig(config),
    connections: [...live].flatMap(({ connection }) =>
      connection === null ? [] : [connection.view()],
    ),
    version: { istioVersion: config.istioVersion, version: VERSION },
    waypointPolicies: [...policies.all()].map((policy) => ({
      ...policyView(policy),
      isAttached: policies.concerns(policy),
    })),
  };
  const sorted = Object.entries(dump).sort(([a], [b]) => (a < b ? -1 : 1));
  return `${JSON.stringify(Object.fromEntries(sorted), null, 2)}\n`;
}

function policyView({ authorization, targets, unchecked }: WaypointPolicy): object {
  const { namespace, name, action, dryRun, rules } = authorization;
  return { namespace, name, action, dryRun, targets, unchecked, rules: rules.length };
}

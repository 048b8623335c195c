// `ztunnel-config policy` and `certificate`: istioctl's columns.
import type { DumpCertificate, DumpIdentity } from "../source/config-dump.ts";
import type { DumpPolicy } from "../source/dump-parts.ts";
import type { Column } from "./table.ts";
import { compare, mergeRecords, type Held, type NodeDump } from "./workloads.ts";

export type PolicyRow = Held<DumpPolicy>;

export interface CertificateRow {
  readonly identity: DumpIdentity;
  readonly node: string;
  readonly type: "Leaf" | "Intermediate" | "Root" | "NA";
  readonly status: string;
  readonly isValid: boolean;
  readonly certificate: DumpCertificate | null;
}

export function policyRows(dumps: readonly NodeDump[], namespace: string | undefined): PolicyRow[] {
  return mergeRecords(
    dumps,
    (d) => d.policies,
    (p) => `${p.namespace}/${p.name}`,
  )
    .filter(({ record: p }) => namespace === undefined || p.namespace === namespace)
    .sort(
      (a, b) =>
        compare(a.record.namespace, b.record.namespace) || compare(a.record.name, b.record.name),
    );
}

export const POLICY_COLUMNS: readonly Column<PolicyRow>[] = [
  { header: "NAMESPACE", value: (r) => r.record.namespace },
  { header: "POLICY NAME", value: (r) => r.record.name },
  { header: "ACTION", value: (r) => r.record.action },
  { header: "SCOPE", value: (r) => r.record.scope },
  { header: "DRY-RUN", wide: true, value: (r) => String(r.record.dryRun) },
  { header: "NODE-OF-ZTUNNEL", wide: true, value: (r) => r.nodes.join(",") },
];

/** One row per certificate of each identity, leaf first; an identity without any has one row. */
export function certificateRows(dumps: readonly NodeDump[], now: number): CertificateRow[] {
  return dumps.flatMap(({ node, value }) =>
    value.identities.flatMap((identity) => {
      const status = identity.state.startsWith("Unavailable") ? "Unavailable" : identity.state;
      const row = (type: CertificateRow["type"], c: DumpCertificate | null): CertificateRow => {
        return { identity, node, type, status, isValid: isValidAt(c, now), certificate: c };
      };
      if (identity.chain.length === 0) return [row("NA", null)];
      // Older ztunnels put the root at the end of the chain instead of beside it.
      const rootInChain = identity.roots.length === 0 && identity.chain.length > 1;
      return [
        ...identity.chain.map((c, i) =>
          row(
            i === 0
              ? "Leaf"
              : rootInChain && i === identity.chain.length - 1
                ? "Root"
                : "Intermediate",
            c,
          ),
        ),
        ...identity.roots.map((c) => row("Root", c)),
      ];
    }),
  );
}

export const CERTIFICATE_COLUMNS: readonly Column<CertificateRow>[] = [
  { header: "CERTIFICATE NAME", value: (r) => r.identity.identity },
  { header: "TYPE", value: (r) => r.type },
  { header: "STATUS", value: (r) => r.status },
  { header: "VALID CERT", value: (r) => String(r.isValid) },
  { header: "SERIAL NUMBER", value: (r) => hexSerial(r.certificate?.serialNumber) },
  { header: "NOT AFTER", value: (r) => r.certificate?.expirationTime || "NA" },
  { header: "NOT BEFORE", value: (r) => r.certificate?.validFrom || "NA" },
  { header: "NODE-OF-ZTUNNEL", wide: true, value: (r) => r.node },
  { header: "REASON", wide: true, value: (r) => reasonOf(r.identity.state) },
];

function reasonOf(state: string): string {
  const at = state.indexOf(": ");
  return at < 0 ? "" : state.slice(at + 2);
}

/** Decimal in the dump, hexadecimal in the table. */
function hexSerial(decimal: string | undefined): string {
  if (decimal === undefined || !/^\d+$/.test(decimal)) return "NA";
  return BigInt(decimal).toString(16);
}

function isValidAt(c: DumpCertificate | null, now: number): boolean {
  if (c === null) return false;
  return now >= Date.parse(c.validFrom) && now < Date.parse(c.expirationTime);
}

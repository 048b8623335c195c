// `ambit ztunnel-config certificate`
import type { ExitCode } from "../../errors.ts";
import { CERTIFICATE_COLUMNS, certificateRows } from "../../render/policies.ts";
import { zcFlags, ZtunnelConfigCommand } from "../../ztunnel-config-command.ts";

export class ZtunnelConfigCertificate extends ZtunnelConfigCommand {
  static override summary = "List the certificates the ztunnels hold.";
  static override description =
    "One row per certificate of a chain, leaf first, from every ztunnel. -o wide adds the ztunnel's node and why a certificate is unavailable.";
  static override examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> --node worker-1 -o wide",
  ];
  static override hiddenAliases = [
    "ztunnel-config:certificates",
    "ztunnel-config:certs",
    "ztunnel-config:cert",
  ];
  static override flags = zcFlags;

  override async run(): Promise<ExitCode> {
    const { flags } = await this.parse(ZtunnelConfigCertificate);
    const { dumps, partial } = await this.dumps(flags);
    const rows = certificateRows(dumps, this.io.now()).filter(
      (r) =>
        flags.namespace === undefined || r.identity.identity.includes(`/ns/${flags.namespace}/`),
    );
    const items = rows
      .filter((r) => r.type === "Leaf" || r.type === "NA")
      .map((r) => ({ node: r.node, ...r.identity.raw }));
    return await this.show(
      {
        rows,
        columns: CERTIFICATE_COLUMNS,
        name: (r) => `certificate/${r.identity.identity}`,
        document: this.document("CertificateList", items, partial),
        empty: "no certificates",
        gap: 5,
      },
      flags,
      partial,
    );
  }
}

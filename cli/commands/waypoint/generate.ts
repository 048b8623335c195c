// `ambit waypoint generate`
import { AmbitCommand } from "../../command.ts";
import { EXIT, type ExitCode } from "../../errors.ts";
import { renderYaml } from "../../render/output.ts";
import { gatewayFlags, waypointGateway } from "../../waypoint/gateway.ts";

export class WaypointGenerate extends AmbitCommand {
  static override summary = "Print the Gateway that makes a waypoint, and change nothing.";
  static override description = "Without -n the manifest names no namespace.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> -n shop > waypoint.yaml",
    "<%= config.bin %> <%= command.id %> --for all | kubectl apply -n shop -f -",
  ];
  static override flags = gatewayFlags;

  override async run(): Promise<ExitCode> {
    const { flags } = await this.parse(WaypointGenerate);
    const gateway = waypointGateway(flags, flags.namespace);
    const text = await renderYaml(gateway);
    const names = [`gateway.gateway.networking.k8s.io/${gateway.metadata.name}`];
    await this.showOne({ text, document: gateway, names }, flags);
    return EXIT.ok;
  }
}

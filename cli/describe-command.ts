// What the `describe` commands share: the object, all that decides about it, and its node's ztunnel when it answers.
import { AmbitCommand, type Globals } from "./command.ts";
import { CliError, EXIT, type ExitCode } from "./errors.ts";
import type { Description } from "./describe/sections.ts";
import type { OpenCluster } from "./kube/open-cluster.ts";
import type { MeshView } from "./kube/mesh-view.ts";
import { API_VERSION } from "./render/output.ts";
import { parseConfigDump, type ConfigDump } from "./source/config-dump.ts";

export abstract class DescribeCommand extends AmbitCommand {
  protected async view(mesh: OpenCluster): Promise<MeshView> {
    const { readMeshView } = await import("./kube/mesh-view.ts");
    return await readMeshView(mesh.cluster, mesh.meshNamespace);
  }

  /** What the ztunnel of `node` holds; `null`, and a warning, when it does not answer. */
  protected async dumpOf(
    node: string | undefined,
    mesh: OpenCluster,
    flags: Globals,
  ): Promise<ConfigDump | null> {
    if (node === undefined || node === "") return null;
    const signal = AbortSignal.any([this.io.signal, AbortSignal.timeout(flags.timeout)]);
    try {
      const source =
        mesh.kube === null
          ? await (await import("./source/open.ts")).openLiveSource(flags, this.io)
          : new (await import("./source/kube-source.ts")).KubeSource(mesh.kube);
      const nodes = await source.nodes();
      if (!nodes.includes(node)) return null;
      return parseConfigDump(await source.fetch(node, "/config_dump", signal));
    } catch (error) {
      this.io.signal.throwIfAborted();
      const reason = error instanceof Error ? error.message : String(error);
      if (
        !(error instanceof CliError) ||
        error.code !== "UNREACHABLE" ||
        !reason.startsWith("No ztunnel")
      )
        this.io.err(`warning: the ztunnel of node ${node} did not answer: ${reason}`);
      return null;
    }
  }

  protected async print(description: Description, flags: Globals): Promise<ExitCode> {
    const { descriptionText } = await import("./describe/sections.ts");
    await this.showOne(
      {
        text: descriptionText(description),
        document: { apiVersion: API_VERSION, ...description.document },
        names: [description.name],
      },
      flags,
    );
    return EXIT.ok;
  }
}

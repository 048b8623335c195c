// What the `describe` commands share: the object, all that decides about it, and its node's ztunnel when it answers.
import * as Flags from "@oclif/core/flags";
import { AmbitCommand, type Globals } from "./command.ts";
import { CliError, EXIT, type ExitCode } from "./errors.ts";
import type { Description } from "./describe/sections.ts";
import type { OpenCluster } from "./kube/open-cluster.ts";
import type { MeshView } from "./kube/mesh-view.ts";
import { API_VERSION } from "./render/output.ts";
import { parseConfigDump, type ConfigDump } from "./source/config-dump.ts";

export const describeFlags = {
  watch: Flags.boolean({ char: "w", summary: "Show it again whenever it changes." }),
};

export abstract class DescribeCommand extends AmbitCommand {
  readonly #warned = new Set<string>();

  protected async view(mesh: OpenCluster): Promise<MeshView> {
    const { readMeshView } = await import("./kube/mesh-view.ts");
    const { warnWithoutMesh } = await import("./kube/mesh-presence.ts");
    await warnWithoutMesh(mesh, { err: (line) => this.#warn(line) });
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
      if (error instanceof CliError && error.code === "NOT_FOUND") return null; // no mesh: `view` says so
      const reason = error instanceof Error ? error.message : String(error);
      this.#warn(`warning: the ztunnel of node ${node} did not answer: ${reason}`);
      return null;
    }
  }

  /** Prints what `look` finds: once, or with --watch whenever it has changed. */
  protected async describe(
    look: () => Promise<Description>,
    flags: Globals & { readonly watch: boolean },
  ): Promise<ExitCode> {
    if (!flags.watch) return await this.#print(await look(), flags);
    const { repeat } = await import("./kube/repeat.ts");
    const key = ({ title, lines, next }: Description): string =>
      JSON.stringify([title, lines, next]);
    const isText = ["table", "wide"].includes(this.format(flags));
    const show = async (description: Description, isFirst: boolean): Promise<void> => {
      if (isText && !isFirst) await this.io.out("\n");
      await this.#print(description, flags);
    };
    await repeat(look, key, show, this.io);
    return EXIT.interrupted;
  }

  /** Once each: with --watch the same is found every second. */
  #warn(line: string): void {
    if (!this.#warned.has(line)) this.io.err(line);
    this.#warned.add(line);
  }

  async #print(description: Description, flags: Globals): Promise<ExitCode> {
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

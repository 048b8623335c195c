// `ambit delete`
import * as Flags from "@oclif/core/flags";
import type { Resource } from "#lib/kube/cluster.ts";
import { groupOf } from "#lib/kube/objects.ts";
import { AmbitCommand } from "../command.ts";
import { CliError, EXIT, type ExitCode } from "../errors.ts";
import { argument } from "../flags.ts";
import { findKind, refuseUnknown } from "../kube/find-kind.ts";
import { namespaceFor, openCluster, requireObject } from "../kube/open-cluster.ts";
import { readManifests } from "../kube/read-manifests.ts";
import { displayName, targetWords, type Target } from "../kube/resource-names.ts";
import { API_VERSION } from "../render/output.ts";

/** A kind as it was written. */
interface Word {
  readonly kind: string;
  readonly name: string;
  readonly namespace?: string | undefined;
}

interface Doomed {
  readonly resource: Resource;
  readonly namespace: string | null;
  readonly name: string;
}

export class Delete extends AmbitCommand {
  static override summary = "Delete objects by name or by manifest.";
  static override description =
    "Fails when a named object does not exist, unless --ignore-not-found is given; nothing is deleted then.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> authorizationpolicy deny-client -n shop",
    "<%= config.bin %> <%= command.id %> -f policy.yaml --ignore-not-found",
  ];
  static override usage = "delete KIND NAME... [FLAGS]";
  static override strict = false;
  static override args = {
    kind: argument({ description: "Kind, then names; or each as kind/name.", required: false }),
  };
  static override flags = {
    file: Flags.string({
      char: "f",
      aliases: ["filename"],
      summary: "Delete what this manifest names; - for stdin.",
      multiple: true,
      multipleNonGreedy: true,
    }),
    "ignore-not-found": Flags.boolean({ summary: "Missing objects are no failure." }),
  };

  override async run(): Promise<ExitCode> {
    const { argv, flags } = await this.parse(Delete);
    const words = await this.#words(argv.map(String), flags.file);
    refuseUnknown(
      flags,
      this.io.env,
      words.map((w) => w.kind),
    );
    const mesh = await openCluster(flags, this.io);
    const targets: (Target & { readonly namespace?: string | undefined })[] = [];
    for (const { kind, ...rest } of words)
      targets.push({ resource: await findKind(mesh, kind), ...rest });
    const { cluster } = mesh;
    const doomed = targets.map(({ resource, name, namespace }): Doomed => {
      const place = namespaceFor(resource, flags, mesh);
      return { resource, name, namespace: place === null ? null : (namespace ?? place) };
    });
    const present: Doomed[] = [];
    for (const d of doomed) {
      if (flags["ignore-not-found"]) {
        if ((await cluster.get(d.resource, d.namespace, d.name)) !== null) present.push(d);
        continue;
      }
      await requireObject(cluster, d.resource, d.namespace, d.name);
      present.push(d);
    }
    for (const d of present) await cluster.delete(d.resource, d.namespace, d.name);
    const names = present.map((d) => displayName(d.resource, d.name));
    const items = names.map((object) => ({ object, change: "deleted" }));
    await this.showOne(
      {
        text: names.map((n) => `${n} deleted\n`).join(""),
        document: { apiVersion: API_VERSION, kind: "DeleteResult", items },
        names,
      },
      flags,
    );
    return EXIT.ok;
  }

  /** `namespace` is undefined where `-n` decides. */
  async #words(
    words: readonly string[],
    files: readonly string[] | undefined,
  ): Promise<readonly Word[]> {
    if (files !== undefined) {
      if (words.length > 0)
        throw new CliError("USAGE", "Names and -f exclude each other", ["give one of them"]);
      return (await readManifests(files, this.io)).map(({ apiVersion, kind, metadata }) => ({
        kind: groupOf(apiVersion) === "" ? kind : `${kind}.${groupOf(apiVersion)}`,
        namespace: metadata.namespace,
        name: metadata.name,
      }));
    }
    const targets = words.length === 0 ? [] : targetWords(words);
    if (targets.length === 0)
      throw new CliError("USAGE", "Nothing to delete", [
        "write a kind and a name, kind/name, or -f FILE",
      ]);
    return targets;
  }
}

// `ambit label`
import * as Flags from "@oclif/core/flags";
import type { KubeObject, Resource } from "#lib/kube/cluster.ts";
import { AmbitCommand, type Globals } from "../command.ts";
import { CliError, EXIT, type ExitCode } from "../errors.ts";
import { argument } from "../flags.ts";
import { isLabelWord, parseLabelChanges, type LabelChanges } from "../kube/label-changes.ts";
import {
  FIELD_MANAGER,
  namespaceFor,
  openCluster,
  requireObject,
  type OpenCluster,
} from "../kube/open-cluster.ts";
import { findKind, findTargets } from "../kube/find-kind.ts";
import { displayName } from "../kube/resource-names.ts";
import { API_VERSION } from "../render/output.ts";

interface Labelled {
  readonly resource: Resource;
  readonly object: KubeObject;
}

export class Label extends AmbitCommand {
  static override summary = "Set or remove labels, as kubectl label does.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> namespace shop istio.io/dataplane-mode=ambient",
    "<%= config.bin %> <%= command.id %> namespace shop istio.io/dataplane-mode-",
    "<%= config.bin %> <%= command.id %> pod/client -n shop istio.io/dataplane-mode=none --overwrite",
  ];
  static override usage = "label KIND NAME... key=value... key-... [FLAGS]";
  static override strict = false;
  static override args = {
    target: argument({
      description: "Kind and names (or kind/name), then key=value to set and key- to remove.",
      required: true,
    }),
  };
  static override flags = {
    overwrite: Flags.boolean({ summary: "Allow changing a label that has another value." }),
    all: Flags.boolean({ summary: "Every object of the kind." }),
    selector: Flags.string({
      char: "l",
      summary: "Every object with these labels.",
      helpValue: "<labels>",
    }),
    "dry-run": Flags.boolean({ summary: "Say what would change, and change nothing." }),
  };

  override async run(): Promise<ExitCode> {
    const { argv, flags } = await this.parse(Label);
    const words = argv.map(String);
    const changes = parseLabelChanges(words.filter(isLabelWord));
    if (Object.keys(changes).length === 0)
      throw new CliError("USAGE", "No label given", ["write key=value to set, key- to remove"]);
    const mesh = await openCluster(flags, this.io);
    const { cluster } = mesh;
    const found = await this.#find(
      mesh,
      words.filter((w) => !isLabelWord(w)),
      flags,
    );
    if (!flags.overwrite) for (const f of found) refuseOverwrite(f, changes);
    const items: { object: string; change: string }[] = [];
    for (const { resource, object } of found) {
      const change = changeWord(object, changes);
      if (change !== "not labeled" && !flags["dry-run"])
        await cluster.patch(
          resource,
          object.metadata.namespace ?? null,
          object.metadata.name,
          { metadata: { labels: changes } },
          { fieldManager: FIELD_MANAGER },
        );
      items.push({ object: displayName(resource, object.metadata.name), change });
    }
    const suffix = flags["dry-run"] ? " (dry run)" : "";
    await this.showOne(
      {
        text: items.map((i) => `${i.object} ${i.change}${suffix}\n`).join(""),
        document: { apiVersion: API_VERSION, kind: "LabelResult", dryRun: flags["dry-run"], items },
        names: items.map((i) => i.object),
      },
      flags,
    );
    return EXIT.ok;
  }

  async #find(
    mesh: OpenCluster,
    words: readonly string[],
    flags: Globals & { readonly all: boolean; readonly selector?: string | undefined },
  ): Promise<readonly Labelled[]> {
    const { cluster } = mesh;
    if (words.length === 0)
      throw new CliError("USAGE", "Nothing to label", [
        "write a kind and a name, e.g. namespace shop",
      ]);
    if (flags.all || flags.selector !== undefined) {
      const resource = await findKind(mesh, words[0] ?? "");
      if (words.length > 1) throw new CliError("USAGE", "Names and --all or -l exclude each other");
      const namespace = flags["all-namespaces"] ? null : namespaceFor(resource, flags, mesh);
      const objects = await cluster.list(resource, {
        ...(namespace === null ? {} : { namespace }),
        ...(flags.selector === undefined ? {} : { labelSelector: flags.selector }),
      });
      if (objects.length === 0)
        throw new CliError("NOT_FOUND", `No ${resource.plural} match`, [
          `ambit get ${resource.plural} -A`,
        ]);
      return objects.map((object) => ({ resource, object }));
    }
    const targets = await findTargets(mesh, words);
    if (targets.length === 0)
      throw new CliError("USAGE", `Which ${words[0]}?`, ["give a name, --all or -l"]);
    const found: Labelled[] = [];
    for (const { resource, name } of targets)
      found.push({
        resource,
        object: await requireObject(cluster, resource, namespaceFor(resource, flags, mesh), name),
      });
    return found;
  }
}

/** @throws {CliError} CONFLICT */
function refuseOverwrite({ resource, object }: Labelled, changes: LabelChanges): void {
  for (const [key, value] of Object.entries(changes)) {
    const old = object.metadata.labels?.[key];
    if (value !== null && old !== undefined && old !== value)
      throw new CliError(
        "CONFLICT",
        `${displayName(resource, object.metadata.name)} already has ${key}=${old}`,
        ["add --overwrite to change it"],
      );
  }
}

function changeWord(object: KubeObject, changes: LabelChanges): string {
  const labels = object.metadata.labels ?? {};
  const effective = Object.entries(changes).filter(
    ([key, value]) => (labels[key] ?? null) !== value,
  );
  if (effective.length === 0) return "not labeled";
  return effective.every(([, value]) => value === null) ? "unlabeled" : "labeled";
}

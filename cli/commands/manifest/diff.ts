// `ambit manifest diff`
import type { KubeObject } from "#lib/kube/cluster.ts";
import { KubeError } from "#lib/kube/errors.ts";
import { EXIT, type ExitCode } from "../../errors.ts";
import { givenProfile, manifestFlags, readSettings, renderProfile } from "../../install/profile.ts";
import { isOptional, planStages } from "../../install/stages.ts";
import { KubeCommand } from "../../kube-command.ts";
import { idOf, textAt } from "../../manifest/object-id.ts";
import { API_VERSION } from "../../render/output.ts";

interface Difference {
  readonly object: string;
  readonly change: "created" | "configured";
  readonly diff: string;
}

export class ManifestDiff extends KubeCommand {
  static override summary = "Show what ambit install would change in the cluster.";
  static override description =
    "The API server applies everything as a dry run, defaults included, and the result is held against what is there. Exits 0 when nothing differs, 1 when something does, with another status when it cannot be told.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> --profile production",
    "<%= config.bin %> <%= command.id %> --set tag=1.1.0 -o json",
  ];
  static override flags = manifestFlags;

  override async run(): Promise<ExitCode> {
    const { flags } = await this.parse(ManifestDiff);
    const settings = await readSettings(flags, this.io);
    await givenProfile(flags); // a name that is none is told before anybody is asked
    const kube = await this.connect(flags);
    const { chooseProfile } = await import("../../install/installed-profile.ts");
    const { profile } = await chooseProfile(flags, kube, this.io);
    const objects = await renderProfile(profile, settings);
    const { serverSideApply, described, sorted } = await import("../../kube/server-side-apply.ts");
    const { findResource } = await import("#lib/kube/api-server/discovery.ts");
    const { unifiedDiff } = await import("../../render/diff.ts");
    const { stringify } = await import("yaml");
    const yaml = (o: unknown): string => stringify(sorted(o), { lineWidth: 0 });
    const found: Difference[] = [];
    for (const o of planStages(objects).flatMap((p) => p.objects)) {
      const name = idOf(o);
      const wanted = o as unknown as KubeObject;
      const resource = await findResource(kube.server, textAt(o, "apiVersion"), textAt(o, "kind"));
      if (resource === null) {
        if (isOptional(o)) continue;
        found.push({ object: name, change: "created", diff: unifiedDiff("", yaml(wanted), name) });
        continue;
      }
      let result: Awaited<ReturnType<typeof serverSideApply>>;
      try {
        result = await serverSideApply(kube, resource, wanted, {
          dryRun: true,
          signal: this.io.signal,
        });
      } catch (error) {
        // Its namespace is not there yet.
        if (!(error instanceof KubeError) || error.code !== "NOT_FOUND") throw error;
        found.push({ object: name, change: "created", diff: unifiedDiff("", yaml(wanted), name) });
        continue;
      }
      if (result.change === "unchanged") continue;
      const before = result.before === null ? "" : yaml(described(result.before));
      const after = yaml(described(result.object));
      const diff = unifiedDiff(before, after, name);
      if (diff !== "") found.push({ object: name, change: result.change, diff });
    }
    await this.showOne(
      {
        text: found.map((d) => d.diff).join(""),
        document: { apiVersion: API_VERSION, kind: "ManifestDiff", items: found },
        names: found.map((d) => d.object),
      },
      flags,
    );
    if (found.length === 0) this.io.err("nothing differs");
    return found.length === 0 ? EXIT.ok : EXIT.failed;
  }
}

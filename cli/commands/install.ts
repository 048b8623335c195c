// `ambit install`
import * as Flags from "@oclif/core/flags";
import { systemClock } from "#lib/base/clock.ts";
import type { JsonObject } from "#lib/kube/json.ts";
import { RESOURCES } from "#lib/kube/objects.ts";
import type { CheckResult } from "../check/check.ts";
import { CliError, EXIT, type ExitCode } from "../errors.ts";
import { duration } from "../flags.ts";
import type { StageResult } from "../install/apply-stages.ts";
import { givenProfile, manifestFlags, readSettings, renderProfile } from "../install/profile.ts";
import type { Kube } from "../kube/connect.ts";
import { KubeCommand } from "../kube-command.ts";
import { API_VERSION } from "../render/output.ts";
import { renderTable } from "../render/table.ts";
import { formatDuration } from "../render/units.ts";

/** Ztunnels come back to an istiod that was replaced within this time: their longest pause between attempts, twice. */
const SETTLE_MS = 30_000;
const SETTLE_POLL_MS = 1_000;
/** Longest wait for one answer while checking. */
const CHECK_TIMEOUT_MS = 15_000;

export class Install extends KubeCommand {
  static override summary = "Install the mesh into a Kubernetes cluster, or bring it up to date.";
  static override description =
    "Checks the cluster, then applies the manifests stage by stage (CRDs, istiod, cni, ztunnel) and waits until each runs. Objects are applied server-side by the field manager ambit: running it again changes what differs and nothing else. The profile is kept (annotation ambit/profile of the ConfigMap istio) until --profile or --overlay name another; --set, -f, --hub and --tag are not: give them again. No pod joins the mesh before its namespace is enrolled.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> -y",
    "<%= config.bin %> <%= command.id %> --profile kind --set image=ambit:dev -y",
    "<%= config.bin %> <%= command.id %> --profile production --hub registry.example.org --tag 1.0.0 --dry-run server",
  ];
  static override flags = {
    ...manifestFlags,
    "dry-run": Flags.string({
      summary:
        "client: list what would be applied; server: have the API server check it. Keeps nothing.",
      options: ["client", "server"] as const,
    }),
    yes: Flags.boolean({ char: "y", aliases: ["skip-confirmation"], summary: "Do not ask." }),
    wait: Flags.boolean({
      summary: "Return when everything runs; --no-wait when everything is applied.",
      default: true,
      allowNo: true,
    }),
    timeout: duration({
      aliases: ["readiness-timeout"],
      summary: "Longest wait for one stage to get ready.",
      default: 300_000,
      defaultHelp: async () => "5m",
    }),
    "skip-checks": Flags.boolean({ summary: "Leave out the checks before and after." }),
  };

  override async run(): Promise<ExitCode> {
    const { flags } = await this.parse(Install);
    const settings = await readSettings(flags, this.io);
    const given = await givenProfile(flags);
    // mistakes in it are told before anybody is asked
    const early = given === null ? null : await renderProfile(given, settings);
    const kube = await this.connect(flags);
    const { chooseProfile, chooseProfileOffline } = await import("../install/installed-profile.ts");
    const dryRun = flags["dry-run"];
    if (dryRun === "client") {
      const { profile } = await chooseProfileOffline(flags, kube, this.io);
      return await this.#listOnly(early ?? (await renderProfile(profile, settings)), flags);
    }
    if (!flags["skip-checks"]) await this.#preflight(kube);
    await refuseTerminating(kube);
    const { profile, replaces } = await chooseProfile(flags, kube, this.io);
    const objects = early ?? (await renderProfile(profile, settings));
    if (replaces !== null) this.io.err(`warning: profile ${profile.name} replaces ${replaces}`);
    if (dryRun === undefined)
      await this.confirm(
        `Install the mesh (${profile.name}${replaces === null ? "" : ` in place of ${replaces}`}) into ${kube.name}?`,
        flags.yes,
      );
    const { applyStages } = await import("../install/apply-stages.ts");
    const stages = await applyStages(kube, objects, this.io, {
      dryRun: dryRun === "server",
      waits: flags.wait,
      timeoutMs: flags.timeout,
    });
    const suffix = dryRun === undefined ? "" : " (server dry run)";
    await this.showOne(
      {
        text: stagesText(stages),
        document: {
          apiVersion: API_VERSION,
          kind: "InstallResult",
          dryRun: dryRun ?? null,
          items: stages.map((s) => ({
            stage: s.stage,
            objects: s.objects,
            ready: s.readiness?.ready ?? null,
            desired: s.readiness?.desired ?? null,
            elapsedMs: Math.round(s.elapsedMs),
          })),
        },
        names: stages.flatMap((s) => s.objects.map((o) => o.object)),
      },
      flags,
    );
    if (dryRun === undefined && flags.wait && !flags["skip-checks"])
      return await this.#verify(kube);
    this.io.err(`the mesh is ${dryRun === undefined ? "applied" : "fit to be applied"}${suffix}`);
    return EXIT.ok;
  }

  async #listOnly(
    objects: readonly JsonObject[],
    flags: Parameters<KubeCommand["show"]>[1],
  ): Promise<ExitCode> {
    const { planStages } = await import("../install/stages.ts");
    const { idOf } = await import("../manifest/object-id.ts");
    const items = planStages(objects).flatMap((p) =>
      p.objects.map((o) => ({ stage: p.stage, object: idOf(o) })),
    );
    await this.showOne(
      {
        text: items.map((i) => `${i.object} would be applied (client dry run)\n`).join(""),
        document: { apiVersion: API_VERSION, kind: "InstallPlan", dryRun: "client", items },
        names: items.map((i) => i.object),
      },
      flags,
    );
    return EXIT.ok;
  }

  /** @throws {CliError} FAILED with what stands in the way */
  async #preflight(kube: Kube): Promise<void> {
    const { runChecks } = await import("../check/run.ts");
    const results = await runChecks(kube, "pre", { io: this.io, timeoutMs: CHECK_TIMEOUT_MS });
    const errors = results.filter((r) => r.result === "error");
    for (const w of results.filter((r) => r.result === "warning"))
      for (const f of w.findings) this.io.err(`warning: ${w.id} ${f.text}`);
    if (errors.length === 0) return;
    throw new CliError(
      "FAILED",
      `${kube.name} is not fit for the mesh: ${errors.map((e) => e.id).join(", ")}`,
      [
        ...errors.flatMap((e) => e.findings.map((f) => `${e.id} ${f.text}; ${f.hint}`)),
        "--skip-checks installs all the same",
      ],
    );
  }

  async #verify(kube: Kube): Promise<ExitCode> {
    const { runChecks } = await import("../check/run.ts");
    const deadline = systemClock.now() + SETTLE_MS;
    let bad: CheckResult[];
    for (;;) {
      const results = await runChecks(kube, "post", { io: this.io, timeoutMs: CHECK_TIMEOUT_MS });
      bad = results.filter((r) => r.result !== "success" && r.result !== "skipped");
      if (bad.every((r) => r.result !== "error") || systemClock.now() > deadline) break;
      await systemClock.sleep(SETTLE_POLL_MS, this.io.signal);
      this.io.signal.throwIfAborted();
    }
    for (const r of bad)
      for (const f of r.findings) this.io.err(`${r.result}: ${r.id} ${f.text}; ${f.hint}`);
    const failed = bad.some((r) => r.result === "error");
    this.io.err(
      failed
        ? "the mesh runs, but not as it should"
        : "the mesh runs; enrol a namespace with: ambit enroll ns/<name>",
    );
    return failed ? EXIT.finding : EXIT.ok;
  }
}

/** @throws {CliError} CONFLICT */
async function refuseTerminating(kube: Kube): Promise<void> {
  const namespace = await kube.cluster.get(RESOURCES.namespaces, null, kube.meshNamespace);
  if (namespace?.metadata.deletionTimestamp === undefined) return;
  throw new CliError("CONFLICT", `Namespace ${kube.meshNamespace} is still being deleted`, [
    `kubectl wait --for=delete namespace/${kube.meshNamespace}, then install again`,
  ]);
}

function stagesText(stages: readonly StageResult[]): string {
  const count = (s: StageResult, change: string): string =>
    String(s.objects.filter((o) => o.change === change).length);
  return renderTable(stages, [
    { header: "STAGE", value: (s) => s.stage },
    { header: "CREATED", value: (s) => count(s, "created") },
    { header: "CONFIGURED", value: (s) => count(s, "configured") },
    { header: "UNCHANGED", value: (s) => count(s, "unchanged") },
    {
      header: "READY",
      value: ({ readiness: r }) => (r === null ? "-" : `${r.ready}/${r.desired}`),
    },
    { header: "ELAPSED", value: (s) => formatDuration(s.elapsedMs) },
  ]);
}

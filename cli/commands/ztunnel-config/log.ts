// `ambit ztunnel-config log`
import * as Flags from "@oclif/core/flags";
import type { LogFilter } from "#lib/obs/log-filter.ts";
import { CliError, EXIT, type ExitCode } from "../../errors.ts";
import { argument, nodeFlag } from "../../flags.ts";
import { parseLoggingAnswer, parseLogLevels } from "../../log-level.ts";
import type { Column } from "../../render/table.ts";
import { parseConfigDump } from "../../source/config-dump.ts";
import { askAll, gather, type GatherOptions, type LiveSource } from "../../source/mesh-source.ts";
import { gatherOptions, openLiveSource } from "../../source/open.ts";
import {
  isPod,
  parsePodName,
  requirePod,
  ZtunnelConfigCommand,
} from "../../ztunnel-config-command.ts";

interface Row {
  readonly node: string;
  readonly filter: LogFilter;
}

const COLUMNS: readonly Column<Row>[] = [
  { header: "NODE", value: (r) => r.node },
  { header: "LEVEL", value: (r) => r.filter.base },
  { header: "SCOPES", value: ({ filter }) => scopeList(filter).join(",") || "-" },
];

export class ZtunnelConfigLog extends ZtunnelConfigCommand {
  static override summary = "Show or change what the ztunnels log.";
  static override description =
    "Levels are off, error, warn, info, debug and trace; a scope's level goes before the general one. Changes hold until the ztunnel ends.";
  static override examples = [
    "<%= config.bin %> <%= command.id %>",
    "<%= config.bin %> <%= command.id %> --level debug --node a",
    "<%= config.bin %> <%= command.id %> client.shop --level warn,access:info",
    "<%= config.bin %> <%= command.id %> --reset",
  ];
  static override hiddenAliases = ["ztunnel-config:logs"];
  static override args = {
    pod: argument({
      description: "A pod whose node's ztunnel is meant: <pod> or <pod>.<namespace>.",
      required: false,
    }),
  };
  static override flags = {
    ...nodeFlag,
    level: Flags.string({
      summary: "Log at this level, or these scopes at these: <level> or <scope>:<level>,...",
      helpValue: "<levels>",
    }),
    reset: Flags.boolean({
      char: "r",
      summary: "Go back to the levels of the ztunnel's start; before --level when both are given.",
    }),
  };

  override async run(): Promise<ExitCode> {
    const { args, flags } = await this.parse(ZtunnelConfigLog);
    if (args.pod !== undefined && flags.node !== undefined)
      throw new CliError("USAGE", "Both a pod and --node say which ztunnel", ["leave out one"]);
    const level = flags.level === undefined ? null : parseLogLevels(flags.level);
    const source = await openLiveSource(flags, this.io);
    const options = gatherOptions(flags, this.io);
    const node =
      args.pod === undefined
        ? flags.node
        : await this.#nodeOf(args.pod, flags.namespace, source, options);
    const query = [
      ...(flags.reset ? ["reset"] : []),
      ...(level === null ? [] : [`level=${encodeURIComponent(level)}`]),
    ].join("&");
    const { answers, partial } = await askAll(
      source,
      "/logging",
      async (name, signal) =>
        parseLoggingAnswer(await source.logging(name, query === "" ? "" : `?${query}`, signal)),
      { ...options, node },
    );
    const rows = answers.map((a) => ({ node: a.node, filter: a.value }));
    const items = rows.map(({ node: name, filter }) => ({
      node: name,
      level: filter.base,
      scopes: Object.fromEntries(filter.scopes),
    }));
    await this.show(
      {
        rows,
        columns: COLUMNS,
        name: (r) => `ztunnel/${r.node}`,
        document: this.document("LogLevelList", items, partial),
        empty: "no ztunnel",
      },
      flags,
      partial,
    );
    // Reading some is an answer; changing some is not what was asked for.
    return query !== "" && partial.length > 0 ? EXIT.failed : EXIT.ok;
  }

  /** @throws {CliError} NOT_FOUND for an unknown pod, USAGE for one without a node */
  async #nodeOf(
    text: string,
    namespace: string | undefined,
    source: LiveSource,
    options: GatherOptions,
  ): Promise<string> {
    const pod = parsePodName(text, namespace);
    const { answers } = await gather(source, "/config_dump", parseConfigDump, options);
    requirePod(pod, answers);
    const found = answers.flatMap((a) => a.value.workloads).find((w) => isPod(w, pod));
    if (found !== undefined && found.node !== "") return found.node;
    throw new CliError("USAGE", `${text} runs on no node of the mesh`, [
      "name the node instead: --node",
    ]);
  }
}

function scopeList(filter: LogFilter): string[] {
  return [...filter.scopes].map(([scope, level]) => `${scope}:${level}`).sort();
}

// `ambit tunnels watch`
import * as Flags from "@oclif/core/flags";
import type { TunnelEvent } from "#lib/model/tunnel.ts";
import { AmbitCommand } from "../../command.ts";
import { CliError, EXIT, type ExitCode } from "../../errors.ts";
import { duration, nodeFlag, sourceFlags } from "../../flags.ts";
import type { Unanswered } from "../../render/output.ts";
import { EVENT_HEADER, eventText } from "../../render/events.ts";
import { parseConfigDump } from "../../source/config-dump.ts";
import {
  chosenNodes,
  gather,
  type GatherOptions,
  type MeshSource,
} from "../../source/mesh-source.ts";
import { follow } from "../../source/follow.ts";
import { gatherOptions, openSource } from "../../source/open.ts";
import { parseTunnelEvent } from "../../source/tunnel-list.ts";
import { mergeStreams } from "../../source/merge-streams.ts";
import { tunnelFilter, tunnelFilterFlags } from "../../tunnel-filter.ts";

const EVENTS = ["open", "close", "deny", "error"] as const;

export class TunnelsWatch extends AmbitCommand {
  static override summary = "Follow connections as they open, close and are denied.";
  static override description =
    "Reads the event stream of every ztunnel until interrupted. -o json writes one JSON object per line, -o yaml one document per event. BYTES is received/sent.";
  static override examples = [
    "<%= config.bin %> <%= command.id %> -n shop",
    "<%= config.bin %> <%= command.id %> --event deny --since 5m",
    "<%= config.bin %> <%= command.id %> --event close --limit 10 -o json",
  ];
  static override flags = {
    ...sourceFlags,
    ...nodeFlag,
    ...tunnelFilterFlags,
    event: Flags.string({
      summary: `Only these events: ${EVENTS.join(", ")}.`,
      multiple: true,
      delimiter: ",",
      options: EVENTS,
      helpValue: "<event>",
    }),
    since: duration({ summary: "Start with what the ztunnels remember of this long ago." }),
    limit: Flags.integer({ summary: "Stop after this many events.", min: 1 }),
  };

  override async run(): Promise<ExitCode> {
    const { flags } = await this.parse(TunnelsWatch);
    const format = this.format(flags);
    const keep = tunnelFilter(flags);
    const events = new Set<string>(flags.event);
    const source = await openSource(flags, this.io);
    const nodes = await chosenNodesOrFile(source, flags.node);
    const isLive = source.confidence === "live";
    const start = flags.since === undefined ? 0 : this.io.now() - flags.since;

    const stop = new AbortController();
    const signal = AbortSignal.any([this.io.signal, stop.signal]);
    const once = new SeenOnce(flags.direction !== undefined || flags.node !== undefined);
    if (isLive && !once.showsAll)
      for (const pod of await capturedPods(source, gatherOptions(flags, this.io)))
        once.captured.add(pod);
    const lost: Unanswered[] = [];
    let shown = 0;
    try {
      const streams = nodes.map((node) => ({
        name: node,
        lines: follow(source, node, (line) => parseTunnelEvent(line, node).time, {
          history: flags.since !== undefined,
          signal,
          onLost: (name, error) =>
            this.io.err(`warning: ${name}: ${error.message}; waiting for its ztunnel`),
        }),
      }));
      for await (const { name: node, line } of mergeStreams(streams, signal, (name, error) =>
        lost.push({ node: name, error: error.message }),
      )) {
        this.warnPartial(lost.splice(0));
        const event = parseTunnelEvent(line, `an event of ${node}`);
        if (isLive && Date.parse(event.time) < start) continue;
        if (once.isRepeated(event)) continue;
        if (
          event.event !== "lost" &&
          (!keep(event) || (events.size > 0 && !events.has(event.event)))
        )
          continue;
        if (shown === 0 && ["table", "wide"].includes(format) && !flags["no-headers"])
          await this.io.out(EVENT_HEADER);
        await this.io.out(await eventText({ node, ...event }, format));
        if (++shown === flags.limit) return EXIT.ok;
      }
    } finally {
      stop.abort();
    }
    return this.io.signal.aborted ? EXIT.interrupted : EXIT.ok;
  }
}

/**
 * Both ztunnels of a connection report it. Where the client's is among those asked, the server's reports of opening
 * and closing are repetitions; refusals and failures are shown from both ends.
 */
class SeenOnce {
  readonly captured = new Set<string>();
  readonly showsAll: boolean;

  constructor(showsAll: boolean) {
    this.showsAll = showsAll;
  }

  isRepeated(e: TunnelEvent): boolean {
    const client = `${e.source.namespace}/${e.source.pod}`;
    if (e.direction === "outbound" && e.source.pod !== undefined) this.captured.add(client);
    if (this.showsAll || e.direction === "outbound") return false;
    return (e.event === "open" || e.event === "close") && this.captured.has(client);
  }
}

/** `namespace/name` of every pod behind the ztunnels; none when they do not say. */
async function capturedPods(
  source: MeshSource,
  options: GatherOptions,
): Promise<readonly string[]> {
  try {
    const { answers } = await gather(source, "/config_dump", parseConfigDump, options);
    return answers.flatMap((a) => a.value.pods.map((p) => `${p.namespace}/${p.name}`));
  } catch (error) {
    if (error instanceof CliError) return [];
    throw error;
  }
}

/** A file of events is one stream; it is no document with nodes. */
async function chosenNodesOrFile(
  source: MeshSource,
  node: string | undefined,
): Promise<readonly string[]> {
  if (source.confidence === "live") return await chosenNodes(source, node);
  if (node !== undefined)
    throw new CliError("USAGE", "--node picks a ztunnel of a running mesh, and -f reads a file");
  return [source.name];
}

// Follows the live events of every ztunnel while a step runs.
import type { TunnelEvent } from "#lib/model/tunnel.ts";
import { PORT } from "#lib/net/ports.ts";
import type { IncomingMessage } from "node:http";
import type { Lab } from "../lab.ts";

export interface NodeEvent extends TunnelEvent {
  readonly node: string;
}

export class EventTap implements Disposable {
  readonly events: NodeEvent[] = [];
  readonly #streams: IncomingMessage[] = [];

  static async open(lab: Lab): Promise<EventTap> {
    const tap = new EventTap();
    for (const { name } of lab.nodes) {
      const stream = await lab.mesh.request(
        lab.mesh.part("ztunnel", name),
        PORT.ztunnelAdmin,
        "/ambit/events",
        3_000,
      );
      if (stream.statusCode !== 200)
        throw new Error(`/ambit/events of node ${name}: HTTP ${stream.statusCode}`);
      tap.#follow(name, stream);
    }
    return tap;
  }

  [Symbol.dispose](): void {
    for (const stream of this.#streams) stream.destroy();
  }

  #follow(node: string, stream: IncomingMessage): void {
    this.#streams.push(stream);
    let rest = "";
    stream.setEncoding("utf8");
    stream.on("error", () => {}); // we hang up
    stream.on("data", (text: string) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines)
        if (line.trim() !== "") this.events.push({ ...(JSON.parse(line) as TunnelEvent), node });
    });
  }
}

/** Who was refused, where to, and by what: the policy once, in the ztunnel's own words where they name it. */
export function denialText({
  event,
  source,
  destination,
  detail,
  reason,
  policy,
}: TunnelEvent): string {
  const ends = `${source.identity ?? source.address} → ${destination.service ?? destination.address}`;
  const why = detail ?? reason ?? "no reason given";
  const name = policy === null || policy === undefined ? "" : `${policy.namespace}/${policy.name}`;
  return `${event} ${ends}: ${why}${why.includes(name) ? "" : ` (policy ${name})`}`;
}

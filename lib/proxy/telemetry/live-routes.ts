// `/ambit/tunnels` and `/ambit/events` of an admin port: what is open now, and what happens.
import type { TunnelView } from "#lib/model/tunnel.ts";
import type { HttpReply, Route } from "#lib/obs/http-server.ts";
import type { EventHub } from "./event-hub.ts";

/** Why a part of the answer is missing. */
export interface PartialAnswer {
  readonly node: string;
  readonly error: string;
}

export function tunnelList(of: {
  readonly views: readonly TunnelView[];
  readonly cluster: string;
  readonly partial: readonly PartialAnswer[];
}): HttpReply {
  const list = {
    apiVersion: "ambit/v1",
    kind: "TunnelList",
    items: of.views,
    meta: { generatedAt: new Date().toISOString(), cluster: of.cluster, partial: of.partial },
  };
  return { type: "application/json", body: `${JSON.stringify(list)}\n` };
}

/** One event a line; `since` is the number of the last one known, 0 for all that are held. */
export function eventsRoute(hub: EventHub): Route {
  return {
    methods: ["GET"],
    handle: async ({ url, signal }): Promise<HttpReply> => {
      const since = url.searchParams.get("since");
      if (since !== null && !/^\d{1,15}$/.test(since))
        return { status: 400, body: "since must be the number of an event\n" };
      return {
        type: "application/x-ndjson",
        body: await hub.open(since === null ? null : Number(since), signal),
      };
    },
  };
}

// istiod's `/debug/syncz`, joined over all replicas: which proxies are connected, and what they acknowledged.
import type { Pod } from "#lib/kube/objects.ts";
import { CliError } from "../errors.ts";
import { isReady } from "../kube/pod-state.ts";
import { parseJson } from "./json.ts";

export const SYNC_STATES = ["SYNCED", "STALE", "NOT_SENT", "IGNORED"] as const;
export type SyncState = (typeof SYNC_STATES)[number];

export interface SyncedProxy {
  readonly name: string;
  readonly namespace: string;
  /** `ztunnel`, `waypoint` … */
  readonly kind: string;
  /** The replica it is connected to. */
  readonly istiod: string;
  /** RFC 3339; empty before the first, or when istiod does not say. */
  readonly lastAck: string;
  readonly types: readonly { readonly type: string; readonly status: SyncState }[];
}

/** What it needs of a source. */
export interface IstiodPages {
  istiods(): Promise<readonly Pod[]>;
  istiod(path: string, signal: AbortSignal, pod?: Pod): Promise<string>;
}

/** `null` when no replica answers. */
export async function syncStatus(
  pages: IstiodPages,
  signal: AbortSignal,
): Promise<readonly SyncedProxy[] | null> {
  const ready = (await pages.istiods()).filter(isReady);
  const answers = await Promise.all(
    ready.map(async (pod) => {
      try {
        return parseSyncz(await pages.istiod("/debug/syncz", signal, pod), pod.metadata.name);
      } catch (error) {
        if (error instanceof CliError && error.code === "BAD_INPUT") throw error;
        return null;
      }
    }),
  );
  const heard = answers.filter((a) => a !== null);
  return heard.length === 0 ? null : heard.flat();
}

/** @throws {CliError} BAD_INPUT */
export function parseSyncz(body: string, istiod: string): SyncedProxy[] {
  return parseJson(body, `/debug/syncz of ${istiod}`)
    .list()
    .map((entry) => {
      const { name, namespace } = splitNodeId(entry.at("proxy").text());
      const known = new Set([
        "proxy",
        "proxy_type",
        "proxy_version",
        "cluster_id",
        "istiod",
        "last_ack",
      ]);
      const types = entry
        .entries()
        .filter(([key]) => !known.has(key))
        .map(([type, status]) => ({
          type,
          status: SYNC_STATES.find((s) => s === status.text()) ?? "IGNORED",
        }));
      const kind = entry.at("proxy_type").text("ztunnel");
      const ack = entry.at("last_ack");
      const lastAck = ack.isAbsent ? "" : ack.text();
      return { name, namespace, kind, istiod, lastAck, types };
    });
}

/** `ztunnel~10.244.1.4~ztunnel-x.istio-system~…` or `ztunnel-x.istio-system`. */
function splitNodeId(id: string): { readonly name: string; readonly namespace: string } {
  const text = id.includes("~") ? (id.split("~")[2] ?? id) : id;
  const dot = text.indexOf(".");
  return dot < 0
    ? { name: text, namespace: "" }
    : { name: text.slice(0, dot), namespace: text.slice(dot + 1) };
}

// The smaller records of a config dump: policies and connections.
import type { DumpConnection } from "./config-dump.ts";
import type { Json, JsonObject } from "./json.ts";

export interface DumpPolicy {
  readonly raw: JsonObject;
  readonly name: string;
  readonly namespace: string;
  readonly action: string;
  readonly scope: string;
  readonly dryRun: boolean;
}

export function parsePolicy(p: Json): DumpPolicy {
  return {
    raw: p.object(),
    name: p.at("name").text(),
    namespace: p.at("namespace").text(),
    action: p.at("action").text(),
    scope: p.at("scope").text(),
    dryRun: p.at("dryRun").boolean(),
  };
}

export function parseConnection(c: Json, direction: "inbound" | "outbound"): DumpConnection {
  return {
    direction,
    src: c.at("src").text(),
    originalDst: c.at("originalDst").text(),
    actualDst: c.at("actualDst").text(),
    protocol: c.at("protocol").text(),
  };
}

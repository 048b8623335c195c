// The event a CNI plugin posts: parsed once, strictly, whoever's plugin it is.
import { tryParseIp, type Ip } from "#lib/net/ip.ts";
import { AgentError } from "./errors.ts";

export interface PluginEvent {
  /** Path as the runtime gave it. */
  readonly netns: string;
  readonly podName: string;
  readonly podNamespace: string;
  /** Addresses of the chain's result; v4-mapped ones are IPv4. */
  readonly ips: readonly Ip[];
  /** From our own plugin's headers; "" when another plugin asks. */
  readonly podUid: string;
  readonly containerId: string;
  readonly network: string;
}

export interface EventHeaders {
  readonly [name: string]: string | string[] | undefined;
}

const MAX_IPS = 64;

/** Names match case-insensitively, as in Go. @throws {AgentError} `BAD_EVENT` */
export function parsePluginEvent(body: string, headers: EventHeaders): PluginEvent {
  const json = lowerKeys(parseJson(body));
  const text = (key: string): string => {
    const value = json.get(key) ?? "";
    if (typeof value !== "string") throw bad(`${key} is not a text`);
    return value;
  };
  const event: PluginEvent = {
    netns: text("netns"),
    podName: text("podname"),
    podNamespace: text("podnamespace"),
    ips: parseIps(json.get("ips")),
    podUid: headerOf(headers, "ambit-pod-uid"),
    containerId: headerOf(headers, "ambit-container-id"),
    network: headerOf(headers, "ambit-network"),
  };
  if (event.podName === "" || event.podNamespace === "") throw bad("it names no pod");
  if (!event.netns.startsWith("/") || event.netns.split("/").includes(".."))
    throw bad(`${JSON.stringify(event.netns)} is no absolute path`);
  return event;
}

export interface GcRequest {
  readonly network: string;
  readonly validContainers: ReadonlySet<string>;
}

/** @throws {AgentError} `BAD_EVENT` */
export function parseGcRequest(body: string): GcRequest {
  const json = parseJson(body);
  const { name, validAttachments } = json;
  if (typeof name !== "string" || !Array.isArray(validAttachments))
    throw bad("it has no name or validAttachments");
  const ids = validAttachments.map((entry: unknown) => {
    const id = (entry as { containerID?: unknown } | null)?.containerID;
    if (typeof id !== "string") throw bad("an attachment has no containerID");
    return id;
  });
  return { network: name, validContainers: new Set(ids) };
}

function parseIps(value: unknown): Ip[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value) || value.length > MAX_IPS) throw bad("IPs is no list of addresses");
  return value.map((entry: unknown) => {
    const address = lowerKeys(entry).get("address");
    const text = lowerKeys(address).get("ip");
    const ip = typeof text === "string" ? tryParseIp(text) : null;
    if (ip === null) throw bad("IPs holds something that is no address");
    return ip;
  });
}

function parseJson(body: string): Record<string, unknown> {
  if (body.trim() === "") throw bad("it is empty");
  let json: unknown;
  try {
    json = JSON.parse(body);
  } catch {
    throw bad("it is not JSON");
  }
  if (typeof json !== "object" || json === null || Array.isArray(json))
    throw bad("it is not a JSON object");
  return json as Record<string, unknown>;
}

function lowerKeys(value: unknown): ReadonlyMap<string, unknown> {
  if (typeof value !== "object" || value === null) return new Map();
  return new Map(Object.entries(value).map(([key, v]) => [key.toLowerCase(), v]));
}

function headerOf(headers: EventHeaders, name: string): string {
  const value = headers[name];
  return typeof value === "string" && value.length <= 256 ? value : "";
}

function bad(why: string): AgentError {
  return new AgentError("BAD_EVENT", `Cannot read the event: ${why}`);
}

// A network configuration as runtimes read it, and our entry in it. Pure: text in, text out. A `.conflist`
// holds a list of plugins, a `.conf` one plugin (CNI specification 1.1, section 1; libcni tells them
// apart by the name).
import { isDeepStrictEqual } from "node:util";
import { PLUGIN_TYPE, type PluginEntry } from "./config.ts";

type Json = Readonly<Record<string, unknown>>;

/** A plugin's own part. */
export type Plugin = Json & { readonly type: string };

export interface NetConfig {
  readonly kind: "list" | "single";
  readonly root: Json;
  /** Never empty. */
  readonly plugins: readonly Plugin[];
}

const CHAIN_NAME = "k8s-pod-network";
const CHAIN_VERSION = "0.3.1";
/** A chain is a few KiB; what is larger is none. */
export const MAX_CONFIG_BYTES = 1 << 20;

/** `null` for what no runtime would take: not JSON, without name or plugins, or with nameless plugins. */
export function parseNetConfig(fileName: string, text: string): NetConfig | null {
  if (text.length > MAX_CONFIG_BYTES) return null;
  let root: unknown;
  try {
    root = JSON.parse(text);
  } catch {
    return null;
  }
  if (!isObject(root)) return null;
  if (fileName.endsWith(".conf"))
    return isPlugin(root) ? { kind: "single", root, plugins: [root] } : null;
  const { name, plugins } = root;
  if (typeof name !== "string" || name === "") return null;
  if (!Array.isArray(plugins) || plugins.length === 0 || !plugins.every(isPlugin)) return null;
  return { kind: "list", root, plugins };
}

/** The configuration with our entry at the end, as a list; every other key and plugin stays. */
export function withEntry(config: NetConfig, entry: PluginEntry): string {
  const others = config.plugins.filter((plugin) => plugin.type !== PLUGIN_TYPE);
  if (config.kind === "list") return print({ ...config.root, plugins: [...others, entry] });
  // a version belongs to the list, not to a plugin of it
  const singles = others.map((plugin) =>
    Object.fromEntries(Object.entries(plugin).filter(([key]) => key !== "cniVersion")),
  );
  return print({ name: CHAIN_NAME, cniVersion: CHAIN_VERSION, plugins: [...singles, entry] });
}

/** The configuration without our entry; `null` when nothing else is left. */
export function withoutEntry(config: NetConfig): string | null {
  const others = otherPlugins(config);
  return others.length === 0 ? null : print({ ...config.root, plugins: others });
}

/** A file of its own, for a multiplexer that calls us by name. */
export function standalone(entry: PluginEntry): string {
  return print({ cniVersion: CHAIN_VERSION, ...entry });
}

/** Whether exactly this entry is in the list, once. Settings of an earlier agent do not count. */
export function holdsEntry(config: NetConfig, entry: PluginEntry): boolean {
  const own = config.plugins.filter((plugin) => plugin.type === PLUGIN_TYPE);
  return config.kind === "list" && own.length === 1 && isDeepStrictEqual(own[0], plain(entry));
}

export function hasOurs(config: NetConfig): boolean {
  return config.plugins.some((plugin) => plugin.type === PLUGIN_TYPE);
}

export function otherPlugins(config: NetConfig): readonly Plugin[] {
  return config.plugins.filter((plugin) => plugin.type !== PLUGIN_TYPE);
}

function plain(entry: PluginEntry): unknown {
  return JSON.parse(JSON.stringify(entry));
}

function print(value: unknown): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

function isPlugin(value: unknown): value is Plugin {
  return isObject(value) && typeof value["type"] === "string" && value["type"] !== "";
}

function isObject(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

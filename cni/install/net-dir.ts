// The directory a runtime takes its network configuration from: which of its files counts, and with
// what text it holds our plugin.
import { lstatSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import type { InstallConfig } from "./config.ts";
import {
  holdsEntry,
  MAX_CONFIG_BYTES,
  otherPlugins,
  parseNetConfig,
  standalone,
  withEntry,
  type NetConfig,
} from "./net-config.ts";

export interface NetFile {
  readonly name: string;
  readonly text: string;
  readonly config: NetConfig;
  /** Permission bits. */
  readonly mode: number;
}

/** One change that puts our plugin into place. */
export interface NetChange {
  readonly name: string;
  readonly text: string;
  readonly mode: number;
  /** A file the new one takes the place of. */
  readonly replaces: string | null;
}

export type NetState =
  /** `file` is what a runtime reads, and our plugin is in it. */
  | { readonly kind: "installed"; readonly file: string; readonly plugins: readonly string[] }
  | {
      readonly kind: "missing";
      readonly change: NetChange;
      /** The primary file's other plugins: who else writes here. */
      readonly plugins: readonly string[];
      /** Our own file is there and follows a change of the primary. */
      readonly isFollowing?: boolean;
    }
  /** No network plugin has written its configuration yet. */
  | { readonly kind: "waiting"; readonly why: string };

const STANDALONE_NAME = "YYY-istio-cni.conf";

/** Files a runtime would take, sorted as it sorts them. @throws when the directory cannot be read */
export function readNetFiles(dir: string): readonly NetFile[] {
  return readdirSync(dir)
    .filter((name) => /^[^.].*\.conf(list)?$/.test(name))
    .sort()
    .flatMap((name) => {
      const file = readNetFile(dir, name);
      return file === null ? [] : [file];
    });
}

/** What the directory looks like, and what is to be done. @throws when it cannot be read */
export function inspectNetDir(config: InstallConfig): NetState {
  const files = readNetFiles(config.netDir);
  if (!config.isChained) return inspectStandalone(config);
  const primary = choosePrimary(files, config);
  if (primary === null) {
    const wanted = config.confName ?? "a network configuration";
    return { kind: "waiting", why: `${wanted} in ${config.netDir}` };
  }
  const plugins = otherPlugins(primary.config).map((plugin) => plugin.type);
  return config.ownConfigName === null
    ? inspectPrimary(config, primary, plugins)
    : inspectOwn(config, primary, config.ownConfigName, plugins);
}

/** The file names that only we write, under these settings. */
export function ownFileNames(config: InstallConfig): readonly string[] {
  if (!config.isChained) return [config.confName ?? STANDALONE_NAME];
  return config.ownConfigName === null ? [] : [config.ownConfigName];
}

/** The first by name that is somebody's network and not our copy of one. */
function choosePrimary(files: readonly NetFile[], config: InstallConfig): NetFile | null {
  const { confName, ownConfigName } = config;
  const candidates = files.filter(
    (file) => file.name !== ownConfigName && otherPlugins(file.config).length > 0,
  );
  if (confName === null) return candidates[0] ?? null;
  const exact = candidates.find((file) => file.name === confName);
  return exact ?? candidates.find((file) => stem(file.name) === stem(confName)) ?? null;
}

function inspectPrimary(
  { entry }: InstallConfig,
  primary: NetFile,
  plugins: readonly string[],
): NetState {
  if (holdsEntry(primary.config, entry)) return { kind: "installed", file: primary.name, plugins };
  const name = primary.config.kind === "list" ? primary.name : `${primary.name}list`;
  const change = {
    name,
    text: withEntry(primary.config, entry),
    mode: primary.mode,
    replaces: name === primary.name ? null : primary.name,
  };
  return { kind: "missing", change, plugins };
}

/** Whatever the primary becomes, the copy follows it. */
function inspectOwn(
  config: InstallConfig,
  primary: NetFile,
  name: string,
  plugins: readonly string[],
): NetState {
  const text = withEntry(primary.config, config.entry);
  const own = readNetFile(config.netDir, name);
  if (own?.text === text) return { kind: "installed", file: name, plugins };
  const change = { name, text, mode: modeOf(config, name), replaces: null };
  return { kind: "missing", change, plugins, isFollowing: own !== null };
}

function inspectStandalone(config: InstallConfig): NetState {
  const name = config.confName ?? STANDALONE_NAME;
  const text = standalone(config.entry);
  if (readNetFile(config.netDir, name)?.text === text)
    return { kind: "installed", file: name, plugins: [] };
  const change = { name, text, mode: modeOf(config, name), replaces: null };
  return { kind: "missing", change, plugins: [] };
}

/** `null` when it is absent, no regular file, or nothing a runtime would take. */
function readNetFile(dir: string, name: string): NetFile | null {
  try {
    const path = join(dir, name);
    const info = statSync(path);
    if (!info.isFile() || info.size > MAX_CONFIG_BYTES) return null;
    const text = readFileSync(path, "utf8");
    const config = parseNetConfig(name, text);
    return config === null ? null : { name, text, config, mode: info.mode & 0o777 };
  } catch {
    return null; // gone meanwhile
  }
}

function modeOf(config: InstallConfig, name: string): number {
  try {
    return lstatSync(join(config.netDir, name)).mode & 0o777;
  } catch {
    return config.confMode;
  }
}

function stem(name: string): string {
  return name.replace(/\.conf(list)?$/, "");
}

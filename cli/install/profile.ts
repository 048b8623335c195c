// Where the manifests of an installation come from: a profile is a directory of manifests/overlays, or the base.
import { readdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import * as Flags from "@oclif/core/flags";
import type { JsonObject } from "#lib/kube/json.ts";
import { CliError } from "../errors.ts";
import type { Io } from "../io.ts";
import { didYouMean } from "../suggest.ts";
import { applySettings, parseSettings } from "./settings.ts";

const MANIFESTS = resolve(import.meta.dirname, "..", "..", "manifests");
export const BASE = "base";

export const manifestFlags = {
  profile: Flags.string({
    summary: "What to install: base, or one of manifests/overlays (kind, production).",
    default: BASE,
    helpValue: "<name>",
  }),
  overlay: Flags.string({
    summary: "Kustomization directory of your own, instead of --profile.",
    helpValue: "<dir>",
  }),
  set: Flags.string({
    char: "s",
    summary: "image=…, hub=…, tag=…, imagePullPolicy=… or meshConfig.<field>=…; repeat it.",
    helpValue: "<key=value>",
    multiple: true,
    multipleNonGreedy: true,
  }),
  file: Flags.string({
    char: "f",
    aliases: ["filename"],
    summary: "The same keys as YAML, meshConfig as a mapping; flags go before it. - for stdin.",
    helpValue: "<file>",
    multiple: true,
    multipleNonGreedy: true,
  }),
  hub: Flags.string({ summary: "Registry of the image; same as --set hub=…." }),
  tag: Flags.string({ summary: "Tag of the image; same as --set tag=…." }),
} as const;

export interface ManifestFlags {
  readonly profile: string;
  readonly overlay?: string | undefined;
  readonly set?: string[] | undefined;
  readonly file?: string[] | undefined;
  readonly hub?: string | undefined;
  readonly tag?: string | undefined;
}

/** The objects as they are to be applied. @throws {CliError} USAGE, BAD_INPUT */
export async function renderManifests(
  flags: ManifestFlags,
  io: Pick<Io, "stdin">,
): Promise<JsonObject[]> {
  const { hub, tag, file = [], set = [] } = flags;
  const words =
    file.length === 0 ? [] : await (await import("./values-file.ts")).readValues(file, io);
  if (hub !== undefined) words.push(`hub=${hub}`);
  if (tag !== undefined) words.push(`tag=${tag}`);
  const settings = parseSettings([...words, ...set]);
  const { renderKustomization } = await import("../manifest/render.ts");
  const dir = flags.overlay ?? (await profileDir(flags.profile));
  return await applySettings(await renderKustomization(dir), settings);
}

/** Everything any profile would have made: what an uninstallation looks for. */
export async function renderEverything(flags: ManifestFlags): Promise<JsonObject[]> {
  const { renderKustomization } = await import("../manifest/render.ts");
  const { idOf } = await import("../manifest/object-id.ts");
  const dirs = await Promise.all((await profileNames()).map(profileDir));
  if (flags.overlay !== undefined) dirs.push(flags.overlay);
  const found = new Map<string, JsonObject>();
  for (const dir of dirs)
    for (const o of await renderKustomization(dir)) if (!found.has(idOf(o))) found.set(idOf(o), o);
  return [...found.values()];
}

async function profileDir(name: string): Promise<string> {
  if (name === BASE) return join(MANIFESTS, BASE);
  const known = await profileNames();
  if (known.includes(name)) return join(MANIFESTS, "overlays", name);
  throw new CliError("USAGE", `No such profile: ${JSON.stringify(name)}`, [
    ...didYouMean(name, known),
    `profiles: ${known.join(", ")}; a directory of your own: --overlay DIR`,
  ]);
}

async function profileNames(): Promise<string[]> {
  const entries = await readdir(join(MANIFESTS, "overlays"), { withFileTypes: true }).catch(
    () => [],
  );
  const overlays = entries.filter((e) => e.isDirectory()).map((e) => e.name);
  return [BASE, ...overlays.sort()];
}

// Where the manifests of an installation come from: a profile is a directory of manifests/overlays, or the base.
import { readdir } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import * as Flags from "@oclif/core/flags";
import type { JsonObject } from "#lib/kube/json.ts";
import { CliError } from "../errors.ts";
import type { Io } from "../io.ts";
import { metadataOf } from "../manifest/object-id.ts";
import { didYouMean } from "../suggest.ts";
import { applySettings, isMeshConfig, parseSettings, type Settings } from "./settings.ts";

const MANIFESTS = resolve(import.meta.dirname, "..", "..", "manifests");
export const BASE = "base";

export const manifestFlags = {
  profile: Flags.string({
    summary:
      "base, or one of manifests/overlays (kind, production). Without: the one installed, else base.",
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
  readonly profile?: string | undefined;
  readonly overlay?: string | undefined;
  readonly set?: string[] | undefined;
  readonly file?: string[] | undefined;
  readonly hub?: string | undefined;
  readonly tag?: string | undefined;
}

/** Where the objects of an installation come from. */
export interface Profile {
  /** Of a profile; `overlay:` and the directory's name for one of the user's. */
  readonly name: string;
  readonly dir: string;
}

/** On the ConfigMap `istio`: the name of the profile that is installed. */
export const PROFILE_ANNOTATION = "ambit/profile";

/** What `-f`, `--hub`, `--tag` and `--set` say. @throws {CliError} USAGE, BAD_INPUT */
export async function readSettings(flags: ManifestFlags, io: Pick<Io, "stdin">): Promise<Settings> {
  const { hub, tag, file = [], set = [] } = flags;
  const words =
    file.length === 0 ? [] : await (await import("./values-file.ts")).readValues(file, io);
  if (hub !== undefined) words.push(`hub=${hub}`);
  if (tag !== undefined) words.push(`tag=${tag}`);
  return parseSettings([...words, ...set]);
}

/** The objects as they are to be applied; they say which profile they are of. @throws {CliError} BAD_INPUT */
export async function renderProfile(
  { name, dir }: Profile,
  settings: Settings,
): Promise<JsonObject[]> {
  const { renderKustomization } = await import("../manifest/render.ts");
  const objects = await applySettings(await renderKustomization(dir), settings);
  return objects.map((o) => {
    if (!isMeshConfig(o)) return o;
    const metadata = metadataOf(o);
    const annotations = { ...(metadata["annotations"] as JsonObject), [PROFILE_ANNOTATION]: name };
    return { ...o, metadata: { ...metadata, annotations } };
  });
}

/** `null` when the flags name none. @throws {CliError} USAGE */
export async function givenProfile(flags: ManifestFlags): Promise<Profile | null> {
  const { overlay, profile } = flags;
  if (overlay !== undefined) return { name: `overlay:${basename(resolve(overlay))}`, dir: overlay };
  return profile === undefined ? null : await findProfile(profile);
}

/** Everything any profile would have made: what an uninstallation looks for. */
export async function renderEverything({
  overlay,
}: Pick<ManifestFlags, "overlay">): Promise<JsonObject[]> {
  const { renderKustomization } = await import("../manifest/render.ts");
  const { idOf } = await import("../manifest/object-id.ts");
  const dirs = (await Promise.all((await profileNames()).map(findProfile))).map((p) => p.dir);
  if (overlay !== undefined) dirs.push(overlay);
  const found = new Map<string, JsonObject>();
  for (const dir of dirs)
    for (const o of await renderKustomization(dir)) if (!found.has(idOf(o))) found.set(idOf(o), o);
  return [...found.values()];
}

/** @throws {CliError} USAGE */
export async function findProfile(name: string): Promise<Profile> {
  if (name === BASE) return { name, dir: join(MANIFESTS, BASE) };
  const known = await profileNames();
  if (known.includes(name)) return { name, dir: join(MANIFESTS, "overlays", name) };
  throw new CliError("USAGE", `No such profile: ${JSON.stringify(name)}`, [
    ...didYouMean(name, known),
    `profiles: ${known.join(", ")}; a directory of your own: --overlay DIR`,
  ]);
}

export async function profileNames(): Promise<string[]> {
  const entries = await readdir(join(MANIFESTS, "overlays"), { withFileTypes: true }).catch(
    () => [],
  );
  const overlays = entries.filter((e) => e.isDirectory()).map((e) => e.name);
  return [BASE, ...overlays.sort()];
}

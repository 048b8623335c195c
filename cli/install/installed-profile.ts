// Which profile an installation was made with: an annotation of its mesh configuration says so, and goes with it.
import { KubeError } from "#lib/kube/errors.ts";
import { RESOURCES } from "#lib/kube/objects.ts";
import { CliError } from "../errors.ts";
import type { Io } from "../io.ts";
import type { Kube } from "../kube/connect.ts";
import {
  BASE,
  findProfile,
  givenProfile,
  type ManifestFlags,
  type Profile,
  PROFILE_ANNOTATION,
  profileNames,
} from "./profile.ts";
import { MESH_CONFIG } from "./settings.ts";

/** `null` when nothing is installed; empty when it does not say, as after `kubectl apply -k`. @throws {KubeError} */
export async function installedProfile({
  cluster,
  meshNamespace,
}: Pick<Kube, "cluster" | "meshNamespace">): Promise<string | null> {
  const config = await cluster.get(RESOURCES.configMaps, meshNamespace, MESH_CONFIG);
  if (config === null) return null;
  return config.metadata.annotations?.[PROFILE_ANNOTATION] ?? "";
}

export interface Choice {
  readonly profile: Profile;
  /** The profile that it takes the place of; `null` for none, or the same. */
  readonly replaces: string | null;
}

/**
 * What the flags name, else what is installed, else the base. Says on stderr what was not asked for.
 * @throws {CliError} USAGE when what is installed cannot be made again without being told how
 */
export async function chooseProfile(
  flags: ManifestFlags,
  kube: Pick<Kube, "cluster" | "meshNamespace" | "name">,
  io: Pick<Io, "err">,
): Promise<Choice> {
  const installed = await installedProfile(kube);
  const given = await givenProfile(flags);
  if (given !== null) {
    const differs = installed !== null && installed !== "" && installed !== given.name;
    return { profile: given, replaces: differs ? installed : null };
  }
  if (installed === null) return { profile: await findProfile(BASE), replaces: null };
  if (installed === "") {
    io.err(
      `warning: the mesh in ${kube.name} does not say which profile it was made with: taking ${BASE}; another: --profile`,
    );
    return { profile: await findProfile(BASE), replaces: null };
  }
  const names = await profileNames();
  if (!names.includes(installed))
    throw new CliError(
      "USAGE",
      `The mesh in ${kube.name} was made with ${installed}, and neither --profile nor --overlay says what it shall be`,
      [
        ...(installed.startsWith("overlay:")
          ? ["the same again: --overlay DIR"]
          : ["this program has no such profile: perhaps a newer one has"]),
        `in its place: --profile ${names.join(", ")}`,
      ],
    );
  io.err(`profile ${installed}, as installed; another: --profile`);
  return { profile: await findProfile(installed), replaces: null };
}

/** For what must work without the cluster: the base is taken where nobody can say what is installed. */
export async function chooseProfileOffline(
  flags: ManifestFlags,
  kube: Pick<Kube, "cluster" | "meshNamespace" | "name">,
  io: Pick<Io, "err">,
): Promise<Choice> {
  try {
    return await chooseProfile(flags, kube, io);
  } catch (error) {
    if (!(error instanceof KubeError)) throw error;
    const profile = (await givenProfile(flags)) ?? (await findProfile(BASE));
    io.err(`warning: what is installed cannot be told, taking ${profile.name}: ${error.message}`);
    return { profile, replaces: null };
  }
}

// Which version each pod of the mesh runs. Istiods and ztunnels say theirs when asked; the other parts run the same
// image, and what one pod says of it holds for all. The image's tag stands in where nobody says anything.
import type { Pod } from "#lib/kube/objects.ts";
import { containerStatuses, isReady } from "../kube/pod-state.ts";
import { splitImage } from "../manifest/images.ts";
import { parseJson } from "./json.ts";
import type { IstiodPages } from "./sync-status.ts";

export class ProgramVersions {
  /** By image, as named in the pod and as the node resolved it. */
  readonly #said = new Map<string, string>();

  /** What the program of `pod` says of itself. */
  learn(pod: Pod, version: string): void {
    if (version === "" || version === "unknown") return;
    for (const image of [imageId(pod), imageName(pod)])
      if (image !== "" && !this.#said.has(image)) this.#said.set(image, version);
  }

  /** The program's own version where it is known, else the tag of its image; empty without either. */
  of(pod: Pod): string {
    // a name can stand for another image by now: it counts where the node has not resolved it yet
    return this.#said.get(imageId(pod) || imageName(pod)) ?? imageTag(imageName(pod));
  }
}

/** Asks every istiod that is ready. */
export async function istiodVersions(
  pages: IstiodPages,
  signal: AbortSignal,
): Promise<ProgramVersions> {
  const versions = new ProgramVersions();
  const ready = (await pages.istiods()).filter(isReady);
  await Promise.all(
    ready.map(async (pod) => {
      const said = await pages
        .istiod("/version", signal, pod)
        .then((page) => parseJson(page, "/version").at("version").text())
        .catch(() => ""); // the tag stands in
      versions.learn(pod, said);
    }),
  );
  return versions;
}

/** `dev` of `registry:5000/ambit:dev`; a digest where there is no tag. */
export function imageTag(image: string): string {
  return splitImage(image).suffix.slice(1);
}

function imageName(pod: Pod): string {
  return pod.spec?.containers?.[0]?.image ?? "";
}

function imageId(pod: Pod): string {
  const name = pod.spec?.containers?.[0]?.name;
  return containerStatuses(pod).find((c) => c.name === name)?.imageID ?? "";
}

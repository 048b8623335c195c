// `--set`, `--hub`, `--tag`: the few things about a manifest that differ from one installation to the next.
import { isJsonObject, type JsonObject } from "#lib/kube/json.ts";
import { CliError } from "../errors.ts";
import { mapImages, splitImage } from "../manifest/images.ts";
import { metadataOf, textAt } from "../manifest/object-id.ts";
import { didYouMean } from "../suggest.ts";

export interface Settings {
  /** Of every container of ours. */
  readonly image: string | null;
  readonly hub: string | null;
  readonly tag: string | null;
  readonly imagePullPolicy: string | null;
  /** Fields of the mesh configuration, by their dotted path. */
  readonly meshConfig: ReadonlyMap<string, string>;
}

/** The ConfigMap that holds the mesh configuration. */
export const MESH_CONFIG = "istio";

const KEYS = ["image", "hub", "tag", "imagePullPolicy", "meshConfig.<field>"] as const;
const PULL_POLICIES = ["Always", "IfNotPresent", "Never"];

/** @param words  `key=value` each. @throws {CliError} USAGE */
export function parseSettings(words: readonly string[]): Settings {
  const values = new Map<string, string>();
  const meshConfig = new Map<string, string>();
  for (const word of words) {
    const equals = word.indexOf("=");
    if (equals < 1)
      throw new CliError("USAGE", `--set takes key=value, got ${JSON.stringify(word)}`, [
        `keys: ${KEYS.join(", ")}`,
      ]);
    const key = word.slice(0, equals);
    const value = word.slice(equals + 1);
    if (key.startsWith("meshConfig.")) meshConfig.set(key.slice("meshConfig.".length), value);
    else if (["image", "hub", "tag", "imagePullPolicy"].includes(key)) values.set(key, value);
    else
      throw new CliError("USAGE", `--set knows no ${JSON.stringify(key)}`, [
        ...didYouMean(key, KEYS),
        `keys: ${KEYS.join(", ")}`,
        "anything else is a kustomization of yours: --overlay DIR",
      ]);
  }
  const policy = values.get("imagePullPolicy") ?? null;
  if (policy !== null && !PULL_POLICIES.includes(policy))
    throw new CliError("USAGE", `imagePullPolicy is no ${JSON.stringify(policy)}`, [
      `it is one of ${PULL_POLICIES.join(", ")}`,
    ]);
  if (values.has("image") && (values.has("hub") || values.has("tag")))
    throw new CliError("USAGE", "image names all of what hub and tag name", ["leave out one"]);
  return {
    image: values.get("image") ?? null,
    hub: values.get("hub") ?? null,
    tag: values.get("tag") ?? null,
    imagePullPolicy: policy,
    meshConfig,
  };
}

export async function applySettings(
  objects: readonly JsonObject[],
  settings: Settings,
): Promise<JsonObject[]> {
  const images = new Map<string, string>();
  const changed = objects.map((o) =>
    mapImages(o, (image) => {
      const next = newImage(image, settings);
      images.set(image, next);
      return next;
    }),
  );
  const result: JsonObject[] = [];
  for (const o of changed) {
    let next = withValues(o, images) as JsonObject;
    if (settings.imagePullPolicy !== null)
      next = withPullPolicy(next, settings.imagePullPolicy) as JsonObject;
    result.push(isMeshConfig(next) ? await withMeshConfig(next, settings.meshConfig) : next);
  }
  if (settings.meshConfig.size > 0 && !result.some(isMeshConfig))
    throw new CliError("BAD_INPUT", "There is no ConfigMap istio with the key mesh to set");
  return result;
}

/** All containers of the mesh run one image. */
function newImage(image: string, { image: whole, hub, tag }: Settings): string {
  if (whole !== null) return whole;
  const { name, suffix } = splitImage(image);
  const newName = hub === null ? name : `${hub.replace(/\/$/, "")}/${name.split("/").at(-1)}`;
  return tag === null ? `${newName}${suffix}` : `${newName}:${tag}`;
}

/** Environment variables that hold the image for others to run, such as the waypoints'. */
function withValues(value: unknown, images: ReadonlyMap<string, string>): unknown {
  if (Array.isArray(value)) return value.map((v) => withValues(v, images));
  if (!isJsonObject(value)) return value;
  const result: Record<string, unknown> = {};
  for (const [key, inner] of Object.entries(value)) {
    const next = key === "value" && typeof inner === "string" ? images.get(inner) : undefined;
    result[key] = next ?? withValues(inner, images);
  }
  return result;
}

function withPullPolicy(value: unknown, policy: string): unknown {
  if (Array.isArray(value)) return value.map((v) => withPullPolicy(v, policy));
  if (!isJsonObject(value)) return value;
  const result: Record<string, unknown> = {};
  for (const [key, inner] of Object.entries(value)) result[key] = withPullPolicy(inner, policy);
  if (typeof result["image"] === "string" && typeof result["name"] === "string")
    result["imagePullPolicy"] = policy;
  return result;
}

export function isMeshConfig(o: JsonObject): boolean {
  const { data } = o;
  return (
    o["kind"] === "ConfigMap" &&
    metadataOf(o)["name"] === MESH_CONFIG &&
    isJsonObject(data) &&
    typeof data["mesh"] === "string"
  );
}

async function withMeshConfig(
  o: JsonObject,
  changes: ReadonlyMap<string, string>,
): Promise<JsonObject> {
  if (changes.size === 0) return o;
  const { parse, parseDocument } = await import("yaml");
  const data = o["data"] as JsonObject;
  const document = parseDocument(textAt(data, "mesh"));
  for (const [path, text] of changes) document.setIn(path.split("."), parse(text));
  return { ...o, data: { ...data, mesh: document.toString() } };
}

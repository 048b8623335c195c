// The mesh tables as they would be with other manifests: applied to a copy of the cluster's objects, translated by
// an istiod started on that copy. The running mesh sees nothing of it.
import { cp, mkdtempDisposable } from "node:fs/promises";
import { basename, join } from "node:path";
import type { Cluster, KubeObject } from "#lib/kube/cluster.ts";
import { MeshTables } from "#lib/model/tables.ts";
import { LabError } from "../../lab/errors.ts";
import { PREVIEW_PREFIX } from "../../lab/state.ts";
import { CliError } from "../errors.ts";
import { parseJson, type Json } from "../source/json.ts";
import type { LabState } from "../source/lab-state.ts";
import { applyObject, type Applied } from "./apply-object.ts";
import { assumeCapture, type Assumed } from "./assume-capture.ts";

/** Whose objects are copied, and who translates the copy. */
export interface PreviewPlace {
  readonly now: Cluster;
  /** Makes a directory only its owner can read; it is removed in the end. */
  makeDir(): Promise<AsyncDisposable & { readonly path: string }>;
  copyTo(manifestDir: string, dir: string): Promise<void>;
  /** What istiod makes of `<dir>/manifests`. @throws {LabError} */
  translate(dir: string, signal: AbortSignal): Promise<unknown>;
}

export interface PreviewOptions {
  readonly namespace: string | undefined;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

export interface MeshPreview {
  readonly tables: MeshTables;
  readonly applied: readonly Applied[];
  /** What others than istiod would do, and was taken as done; sentences. */
  readonly assumptions: readonly string[];
}

/** @throws {CliError} TIMEOUT, FAILED with istiod's own words, or what `applyObject` throws */
export async function previewMesh(
  place: PreviewPlace,
  objects: readonly KubeObject[],
  { namespace, timeoutMs, signal }: PreviewOptions,
): Promise<MeshPreview> {
  const { DirectoryCluster } = await import("#lib/kube/directory-cluster.ts");
  await using dir = await place.makeDir();
  const manifestDir = join(dir.path, "manifests");
  await place.copyTo(manifestDir, dir.path);
  const copy = new DirectoryCluster(manifestDir);
  const applied: Applied[] = [];
  for (const object of objects)
    applied.push(
      await applyObject({ cluster: copy, kube: null }, object, { namespace, dryRun: false }),
    );
  const assumed = await assumeCapture(place.now, copy);
  const late = AbortSignal.timeout(timeoutMs);
  let answer: unknown;
  try {
    answer = await place.translate(dir.path, AbortSignal.any([signal, late]));
  } catch (error) {
    if (late.aborted) throw timedOut(timeoutMs, error);
    if (!(error instanceof LabError)) throw error;
    throw new CliError("FAILED", `Cannot preview the mesh: ${error.message}`, [], error);
  }
  const tables = tablesFrom(parseJson(JSON.stringify(answer), "istiod's preview"));
  return { tables, applied, assumptions: assumptions(assumed, objects, applied) };
}

/** A lab: its own process starts the istiod, in its sandbox. */
export async function labPlace(lab: LabState): Promise<PreviewPlace> {
  const { DirectoryCluster } = await import("#lib/kube/directory-cluster.ts");
  const { labRequest } = await import("../../lab/client.ts");
  return {
    now: new DirectoryCluster(lab.manifestDir),
    makeDir: () => mkdtempDisposable(join(lab.dir, PREVIEW_PREFIX)),
    copyTo: (manifestDir) => copyManifests(lab.manifestDir, manifestDir),
    translate: (dir, signal) =>
      labRequest(lab, "POST", `/previews/${basename(dir)}`, undefined, signal),
  };
}

/** Everything but the lock and files half written; a file replaced while it is read is read again. */
async function copyManifests(from: string, to: string): Promise<void> {
  const filter = (path: string): boolean => !/(^|\/)\.lock|\.tmp\b/.test(path.slice(from.length));
  for (let attempt = 1; ; attempt++)
    try {
      return await cp(from, to, { recursive: true, force: true, filter });
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "ENOENT" && attempt < 5) continue;
      throw new CliError("FAILED", `Cannot copy ${from}: ${code}`, [], error);
    }
}

function tablesFrom(preview: Json): MeshTables {
  const tables = new MeshTables();
  const ops = (key: "addresses" | "policies", op: "address" | "policy") =>
    preview
      .at(key)
      .list()
      .map((r) => ({
        op,
        name: r.at("name").text(),
        bytes: Buffer.from(r.at("bytes").text(), "base64"),
      }))
      // In a dump's order: of equal endpoints, the first is explained.
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  const [rejected] = tables.apply([...ops("addresses", "address"), ...ops("policies", "policy")]);
  if (rejected === undefined) return tables;
  throw new CliError("FAILED", `istiod's ${rejected.name} is refused: ${rejected.reason}`);
}

function assumptions(
  { captured, released }: Assumed,
  objects: readonly KubeObject[],
  applied: readonly Applied[],
): string[] {
  const runs = objects.some((o, i) => o.kind === "Pod" && applied[i]?.change === "created");
  const serves = objects.some((o, i) => o.kind === "Service" && applied[i]?.change === "created");
  return [
    ...(captured.length === 0 ? [] : [`the CNI agents capture ${captured.join(", ")}`]),
    ...(released.length === 0 ? [] : [`the CNI agents release ${released.join(", ")}`]),
    ...(runs ? ["new pods have no address before a node runs them"] : []),
    ...(serves ? ["new services have the addresses their manifest says, and no other"] : []),
  ];
}

function timedOut(timeoutMs: number, cause: unknown): CliError {
  return new CliError(
    "TIMEOUT",
    `No preview of the mesh within ${timeoutMs} ms`,
    ["give it longer with --timeout"],
    cause,
  );
}

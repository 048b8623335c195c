// Custom resource definitions for test clusters: Gateway API's and Istio's from their Go modules, pinned
// in `crds/`; Ambit's own from the manifests.
import { existsSync, readFileSync } from "node:fs";
import { copyFile, readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { LabError } from "../../lab/errors.ts";
import { run } from "../../lab/process.ts";
import type { ApiRequester } from "./api-request.ts";
import { requireGo } from "./binaries.ts";
import { cachePlace, fillOnce } from "./cache.ts";

export type CrdSet = "gateway-api" | "istio" | "ambit";

const SOURCE = join(import.meta.dirname, "crds");
const OURS = join(import.meta.dirname, "../../manifests/crds");
const CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const MODULES = {
  "gateway-api": { path: "sigs.k8s.io/gateway-api", dir: "config/crd/standard" },
  istio: { path: "istio.io/api", dir: "kubernetes" },
} as const;

/** YAML files that hold the definitions. @throws {LabError} `MISSING_PROGRAM`, `COMMAND`, `NOT_FOUND` */
export async function crdFiles(set: CrdSet): Promise<string[]> {
  const dir = set === "ambit" ? OURS : join(await downloaded(), set);
  if (!existsSync(dir)) throw new LabError("NOT_FOUND", `There are no CRDs in ${dir}`);
  const names = (await readdir(dir)).filter((n) => n.endsWith(".yaml") && !n.startsWith("kustom"));
  return names.toSorted().map((name) => join(dir, name));
}

/** One YAML document per definition. */
export async function crdDocuments(set: CrdSet): Promise<string[]> {
  const texts = await Promise.all((await crdFiles(set)).map((file) => readFile(file, "utf8")));
  return texts
    .flatMap((text) => text.split(/^---.*$/m))
    .filter((document) => /^kind: CustomResourceDefinition\b/m.test(document));
}

/** Creates those of the sets that are missing. Served they are when `areServed` says so. */
export async function createCrds(api: ApiRequester, sets: readonly CrdSet[]): Promise<void> {
  const documents = (await Promise.all(sets.map(crdDocuments))).flat();
  await Promise.all(
    documents.map(async (body) => {
      const contentType = "application/yaml";
      const { status, text } = await api.send(CRDS, { method: "POST", body, contentType });
      if (status !== 201 && status !== 409)
        throw new LabError("COMMAND", `Cannot create a CRD: ${status} ${text}`);
    }),
  );
}

/** Whether every definition of the cluster is established. */
export async function areServed(api: ApiRequester): Promise<boolean> {
  const { items } = JSON.parse((await api.send(CRDS)).text) as {
    readonly items: readonly {
      readonly status?: { readonly conditions?: readonly { type: string; status: string }[] };
    }[];
  };
  return items.every((crd) =>
    crd.status?.conditions?.some((c) => c.type === "Established" && c.status === "True"),
  );
}

async function downloaded(): Promise<string> {
  const place = cachePlace(
    "crds",
    readFileSync(join(SOURCE, "go.mod"), "utf8"),
    readFileSync(join(SOURCE, "go.sum"), "utf8"),
  );
  await fillOnce(place, async (target) => {
    await requireGo(SOURCE);
    // -C needs no change of directory; sums are checked against go.sum
    const { stdout } = await run(["go", "-C", SOURCE, "mod", "download", "-json"], {
      env: { GOTOOLCHAIN: "local", GOFLAGS: "-mod=readonly" },
      timeoutMs: 300_000,
    });
    const modules = JSON.parse(`[${stdout.trim().replaceAll(/\}\s*\{/g, "},{")}]`) as readonly {
      readonly Path: string;
      readonly Dir: string;
    }[];
    for (const [set, { path, dir }] of Object.entries(MODULES)) {
      const module = modules.find((m) => m.Path === path);
      if (module === undefined) throw new LabError("NOT_FOUND", `go.mod does not name ${path}`);
      await copyYaml(join(module.Dir, dir), join(target, set));
    }
  });
  return place;
}

async function copyYaml(from: string, to: string): Promise<void> {
  await run(["mkdir", "-p", to]);
  for (const name of await readdir(from))
    if (name.endsWith(".yaml")) await copyFile(join(from, name), join(to, name));
}

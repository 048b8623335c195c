// `--what-if` in a Kubernetes cluster: its objects, read with the user's permissions into a directory of this machine,
// and an istiod here that translates them. The cluster is asked to check them, and keeps nothing.
import { mkdir, mkdtempDisposable, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { KubeObject, Resource } from "#lib/kube/cluster.ts";
import { KubeError } from "#lib/kube/errors.ts";
import { groupOf, RESOURCES } from "#lib/kube/objects.ts";
import { PREVIEW_PREFIX } from "../../lab/state.ts";
import type { Kube } from "./connect.ts";
import { listServed } from "./mesh-view.ts";
import type { PreviewPlace } from "./preview.ts";
import { findResource } from "./resource-names.ts";
import { described, serverSideApply } from "./server-side-apply.ts";

/** What istiod makes addresses and policies of. No Secrets. */
const COPIED: readonly Resource[] = [
  RESOURCES.namespaces,
  RESOURCES.nodes,
  RESOURCES.pods,
  RESOURCES.services,
  RESOURCES.endpointSlices,
  RESOURCES.serviceEntries,
  RESOURCES.workloadEntries,
  RESOURCES.authorizationPolicies,
  RESOURCES.peerAuthentications,
  RESOURCES.gateways,
  RESOURCES.gatewayClasses,
];

export function clusterPlace(kube: Kube): PreviewPlace {
  return {
    now: kube.cluster,
    makeDir: () => mkdtempDisposable(join(tmpdir(), PREVIEW_PREFIX)),
    async copyTo(manifestDir, dir) {
      for (const resource of COPIED)
        await write(join(manifestDir, resource.plural), await listServed(kube.cluster, resource));
      const { cluster, meshNamespace } = kube;
      const mesh = (await cluster.get(RESOURCES.configMaps, meshNamespace, "istio"))?.data?.[
        "mesh"
      ];
      if (mesh !== undefined) await writeFile(join(dir, "mesh.yaml"), mesh);
    },
    async translate(dir, signal) {
      const { previewDirectory } = await import("../../lab/preview.ts");
      const answer = previewDirectory(dir, { POD_NAMESPACE: kube.meshNamespace });
      const aborted = new Promise<never>((_, reject) =>
        signal.addEventListener("abort", () => reject(signal.reason as Error), { once: true }),
      );
      return await Promise.race([answer, aborted]);
    },
  };
}

/** One file each, as DirectoryCluster lays them out; JSON is YAML. */
async function write(dir: string, objects: readonly KubeObject[]): Promise<void> {
  for (const o of objects) {
    const place = join(dir, o.metadata.namespace ?? "_cluster");
    await mkdir(place, { recursive: true });
    await writeFile(join(place, `${o.metadata.name}.yaml`), `${JSON.stringify(o)}\n`);
  }
}

export interface Checked {
  readonly objects: readonly KubeObject[];
  /** Those nobody but istiod looked at; `kind/name`. */
  readonly unchecked: readonly string[];
}

/**
 * The objects as the API server would store them, which it says without keeping them: one whose manifest says no
 * namespace is in the context's. Who may not write them gets their own words back.
 * @throws {KubeError} INVALID naming the field; {CliError} USAGE for a kind that decides nothing here
 */
export async function checked(kube: Kube, objects: readonly KubeObject[]): Promise<Checked> {
  const result: KubeObject[] = [];
  const unchecked: string[] = [];
  for (const o of objects) {
    const group = groupOf(o.apiVersion);
    const resource = findResource(group === "" ? o.kind : `${o.kind}.${group}`);
    const namespace = o.metadata.namespace ?? kube.namespace;
    const object = resource.namespaced ? { ...o, metadata: { ...o.metadata, namespace } } : o;
    try {
      const { object: stored } = await serverSideApply(kube, resource, object, { dryRun: true });
      result.push(described(stored) as unknown as KubeObject);
    } catch (error) {
      const isOpen = error instanceof KubeError && UNCHECKED.has(error.code);
      if (!isOpen) throw error;
      unchecked.push(`${o.kind} ${o.metadata.name}`);
      result.push(object);
    }
  }
  return { objects: result, unchecked };
}

/** No permission to write it, or its namespace or kind comes with the same manifests. */
const UNCHECKED: ReadonlySet<string> = new Set(["FORBIDDEN", "NOT_FOUND", "NOT_SERVED"]);

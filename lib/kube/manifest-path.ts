// Where a manifest directory keeps an object that has no file yet: `<plural>/<namespace>/<name>`.

/** The folder of objects without a namespace; no namespace can have this name. */
export const CLUSTER_SCOPE = "_cluster";

/** Below the directory, without an ending. */
export function manifestPath(plural: string, namespace: string | null, name: string): string {
  return `${plural}/${namespace ?? CLUSTER_SCOPE}/${name}`;
}

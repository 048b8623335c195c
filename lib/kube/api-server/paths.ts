// Where the API server keeps objects: URL paths by group, version, namespace and plural.
import type { KubeObject, Resource } from "../cluster.ts";
import type { Subject } from "./status-error.ts";

export interface Place {
  readonly namespace: string | null;
  readonly name?: string;
  readonly subresource?: string;
}

/** @param version as served, which need not be the resource's own */
export function objectPath(resource: Resource, version: string, place: Place): string {
  const { group, plural, namespaced } = resource;
  const root = group === "" ? `/api/${version}` : `/apis/${group}/${version}`;
  const scope =
    namespaced && place.namespace !== null
      ? `/namespaces/${encodeURIComponent(place.namespace)}`
      : "";
  const name = place.name === undefined ? "" : `/${encodeURIComponent(place.name)}`;
  const subresource = place.subresource === undefined ? "" : `/${place.subresource}`;
  return `${root}${scope}/${plural}${name}${subresource}`;
}

export function subjectOf(verb: string, resource: Resource, place: Place): Subject {
  const { kind, group, plural, namespaced } = resource;
  return {
    verb,
    kind: place.subresource === undefined ? kind : `${kind} ${place.subresource}`,
    group,
    resource: place.subresource === undefined ? plural : `${plural}/${place.subresource}`,
    namespace: namespaced ? place.namespace : null,
    name: place.name ?? null,
  };
}

/** A namespaced object without namespace is in `default`, as for kubectl. */
export function namespaceFor(
  resource: Resource,
  namespace: string | null | undefined,
): string | null {
  return resource.namespaced ? (namespace ?? "default") : null;
}

/** `group/version` as objects name it; `v1` for the core group. */
export function apiVersionOf(resource: Resource, version: string): string {
  return resource.group === "" ? version : `${resource.group}/${version}`;
}

/** One per object and kind; a reflector's key. */
export function keyOf({ metadata: { namespace, name } }: KubeObject): string {
  return namespace === undefined ? name : `${namespace}/${name}`;
}

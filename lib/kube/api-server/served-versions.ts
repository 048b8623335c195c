// Which version of each resource is used: the one asked for unless the API server serves only others.
import type { Resource } from "../cluster.ts";

export class ServedVersions {
  /** Only resources that are not used at their own version. */
  readonly #others = new Map<string, string>();

  of(resource: Resource): string {
    return this.#others.get(keyOf(resource)) ?? resource.version;
  }

  use(resource: Resource, version: string): void {
    if (version === resource.version) this.forget(resource);
    else this.#others.set(keyOf(resource), version);
  }

  forget(resource: Resource): void {
    this.#others.delete(keyOf(resource));
  }
}

function keyOf({ group, plural, version }: Resource): string {
  return `${group}/${version}/${plural}`;
}

// Whether a Gateway is looked after by this revision, as namespaces and tags are now.
import { isDeepStrictEqual } from "node:util";
import { type Gateway, type Namespace, RESOURCES, type Service } from "#lib/kube/objects.ts";
import { TAG } from "./keys.ts";
import { isOurs, ownTags } from "./ownership.ts";
import type { GatewaySettings } from "./settings.ts";
import { WatchedObjects } from "./watched-objects.ts";

export interface RevisionOwnersOptions {
  readonly settings: () => GatewaySettings;
  /** Another answer for Gateways of this namespace; of every one with `null`. */
  onChange(namespace: string | null): void;
  onSynced(): void;
}

export class RevisionOwners {
  /** To be run by the owner. */
  readonly namespaces: WatchedObjects<Namespace>;
  readonly #options: RevisionOwnersOptions;
  /** Services of the system namespace that stand for tags, by name. */
  readonly #tags = new Map<string, Service>();

  constructor(options: RevisionOwnersOptions) {
    this.#options = options;
    this.namespaces = new WatchedObjects({
      resource: RESOURCES.namespaces,
      onChange: (now, old) => {
        const { name, labels } = (now ?? old)?.metadata ?? { name: "" };
        const isRelabelled = old === undefined || !isDeepStrictEqual(labels, old.metadata.labels);
        if (isRelabelled || now === undefined) options.onChange(name);
      },
      onSynced: options.onSynced,
    });
  }

  isOurs({ metadata }: Gateway): boolean {
    const home = this.namespaces.objects.get(metadata.namespace ?? "");
    const tags = ownTags(this.#options.settings().revision, this.#tags.values());
    return isOurs(metadata.labels, home && (home.metadata.labels ?? {}), tags);
  }

  /** To be told of every Service. */
  serviceChanged(service: Service, isGone: boolean): void {
    const { namespace, name, labels } = service.metadata;
    if (namespace !== this.#options.settings().systemNamespace) return;
    const isTag = !isGone && labels?.[TAG] !== undefined;
    if (!isTag && !this.#tags.delete(name)) return;
    if (isTag) this.#tags.set(name, service);
    this.#options.onChange(null);
  }
}

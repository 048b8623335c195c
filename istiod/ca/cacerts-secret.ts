// A plugged-in CA in Secret `cacerts`, read through the API where it is not mounted.
import type { ApiServerCluster } from "#lib/kube/api-server/api-server-cluster.ts";
import { RESOURCES } from "#lib/kube/objects.ts";
import type { Logger } from "#lib/obs/log.ts";
import { pluggedInCa, type PluggedInCa } from "#lib/pki/ca-files.ts";

const NAME = "cacerts";

export class CacertsSecret {
  readonly #api: ApiServerCluster;
  readonly #namespace: string;
  readonly #log: Logger;

  constructor(api: ApiServerCluster, namespace: string, log: Logger) {
    this.#api = api;
    this.#namespace = namespace;
    this.#log = log;
  }

  get name(): string {
    return `Secret ${this.#namespace}/${NAME}`;
  }

  /** @returns `null` without the Secret. @throws {PkiError | KubeError} */
  async load(nowMs: number): Promise<PluggedInCa | null> {
    const secret = await this.#api.get(RESOURCES.secrets, this.#namespace, NAME);
    if (secret === null) return null;
    const files = {
      name: this.name,
      place: (file: string): string => `${this.name}, ${file}`,
      read: async (file: string): Promise<string | null> => {
        const value = secret.data?.[file];
        return value === undefined ? null : Buffer.from(value, "base64").toString();
      },
    };
    return pluggedInCa(files, nowMs);
  }

  /** Calls `onChange` for each change, one after the other, until `signal` aborts. */
  async watch(onChange: () => Promise<void>, signal: AbortSignal): Promise<void> {
    let last = Promise.resolve();
    const handler = {
      onEvents: () => {
        last = last.then(onChange);
      },
      onSynced: () => {},
      onError: (error: Error) => this.#log.warn({ error }, "cannot watch the CA's Secret"),
    };
    const selected = { namespace: this.#namespace, fieldSelector: `metadata.name=${NAME}`, signal };
    await this.#api.watch(RESOURCES.secrets, handler, selected);
    await last;
  }
}

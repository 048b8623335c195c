// The self-signed root in Secret `istio-ca-secret`, with Istio's keys, so that either can take over from
// the other. Made once however many replicas start: whoever creates the Secret wins, the others read it.
import type { ApiServerCluster } from "#lib/kube/api-server/api-server-cluster.ts";
import { KubeError } from "#lib/kube/errors.ts";
import { RESOURCES } from "#lib/kube/objects.ts";
import { parseCertificate } from "#lib/pki/certificate.ts";
import type { Signer } from "#lib/pki/issue.ts";
import { parsePrivateKey } from "#lib/pki/keys.ts";
import { IstiodError } from "../errors.ts";
import { caKeyPem, type RootStore } from "./root-store.ts";

const NAME = "istio-ca-secret";
const FIELD_MANAGER = "istiod";

export class SecretRootStore implements RootStore {
  readonly #api: ApiServerCluster;
  readonly #namespace: string;
  /** Of the Secret as read or written last: a replacement is one of this very version. */
  #version: string | undefined;

  constructor(api: ApiServerCluster, namespace: string) {
    this.#api = api;
    this.#namespace = namespace;
  }

  async read(): Promise<Signer | null> {
    const secret = await this.#api.get(RESOURCES.secrets, this.#namespace, NAME);
    if (secret === null) return null;
    const text = (key: string): string =>
      Buffer.from(secret.data?.[key] ?? "", "base64").toString();
    const part = <T>(key: string, parse: (text: string) => T): T => {
      try {
        return parse(text(key));
      } catch (cause) {
        const what = `Secret ${this.#namespace}/${NAME}: ${key} is ${text(key) === "" ? "empty" : "damaged"}`;
        throw new IstiodError(
          "CA_STATE",
          `${what}; restore it, or delete the Secret for a new root`,
          {
            cause,
          },
        );
      }
    };
    const signer = {
      certificate: part("ca-cert.pem", parseCertificate),
      key: part("ca-key.pem", parsePrivateKey),
    };
    this.#version = secret.metadata.resourceVersion;
    return signer;
  }

  async keepFirst(signer: Signer): Promise<Signer> {
    try {
      const made = await this.#api.create(
        RESOURCES.secrets,
        {
          apiVersion: "v1",
          kind: "Secret",
          type: "istio.io/ca-root",
          metadata: { name: NAME, namespace: this.#namespace },
          data: {
            ...certificates(signer),
            "ca-key.pem": base64(caKeyPem(signer.key)),
            "cert-chain.pem": "",
            "key.pem": "",
          },
        },
        { fieldManager: FIELD_MANAGER },
      );
      this.#version = made.metadata.resourceVersion;
      return signer;
    } catch (error) {
      return this.#winnersOr(error, "ALREADY_EXISTS");
    }
  }

  async replace(signer: Signer): Promise<Signer> {
    const metadata = this.#version === undefined ? {} : { resourceVersion: this.#version };
    const patch = { metadata, data: certificates(signer) };
    const options = { fieldManager: FIELD_MANAGER };
    try {
      const { metadata: written } = await this.#api.patch(
        RESOURCES.secrets,
        this.#namespace,
        NAME,
        patch,
        options,
      );
      this.#version = written.resourceVersion;
      return signer;
    } catch (error) {
      return this.#winnersOr(error, "CONFLICT");
    }
  }

  /** Somebody was faster: his is the root. */
  async #winnersOr(error: unknown, lost: "ALREADY_EXISTS" | "CONFLICT"): Promise<Signer> {
    const isLost = error instanceof KubeError && error.code === lost;
    const winner = isLost ? await this.read() : null;
    if (winner === null) throw error;
    return winner;
  }
}

function certificates({ certificate }: Signer): Readonly<Record<string, string>> {
  const pem = base64(certificate.pem);
  return { "ca-cert.pem": pem, "root-cert.pem": pem };
}

function base64(text: string): string {
  return Buffer.from(text).toString("base64");
}

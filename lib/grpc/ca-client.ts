// The client of the certificate service: one channel, kept until the trust anchors change.
import { Client, type Metadata } from "@grpc/grpc-js";
import type { IstioCertificateRequest, IstioCertificateResponse } from "../wire/gen/ca.gen.ts";
import { parseServerAddress } from "./address.ts";
import { callMetadata, type CallIdentity } from "./call-metadata.ts";
import { channelParts, type ChannelSettings } from "./channel.ts";
import { GrpcError, grpcError } from "./errors.ts";
import { createCertificateMethod } from "./services.ts";

export interface CaClientOptions extends CallIdentity {
  /** `[https://]host:port`. */
  readonly address: string;
  /** Trust anchors, read before each call; a change makes a new channel. `null`: the system's roots. */
  readonly rootCert: () => Promise<Uint8Array | null>;
  readonly altHostname?: string;
  readonly tls?: Pick<ChannelSettings, "minTlsVersion" | "groups">;
  /** Default 10 s. */
  readonly timeoutMs?: number;
}

export interface CertificateOrder {
  readonly csrPem: string;
  readonly ttlSeconds: number;
  /** The identity to certify instead of the caller's own: how a node proxy asks for its pods. */
  readonly impersonate?: string;
}

const DEFAULT_TIMEOUT_MS = 10_000;

/** Owns its channel. Calls may run in parallel. */
export class CaClient implements Disposable {
  readonly #options: CaClientOptions;
  #channel: { readonly root: Buffer | null; readonly client: Client } | null = null;
  #isClosed = false;

  constructor(options: CaClientOptions) {
    this.#options = options;
  }

  /**
   * Asks for one certificate.
   * @returns `cert_chain`: leaf, issuers, and last the root bundle; at least two elements
   * @throws {GrpcError} the status of the server, or what is wrong with the answer
   */
  async createCertificate(
    order: CertificateOrder,
    signal?: AbortSignal,
  ): Promise<readonly string[]> {
    const client = await this.#connect();
    const metadata = await callMetadata(this.#options);
    const { certChain } = await this.#call(
      client,
      {
        csr: order.csrPem,
        validityDuration: order.ttlSeconds,
        metadata:
          order.impersonate === undefined ? undefined : { ImpersonatedIdentity: order.impersonate },
      },
      metadata,
      signal,
    );
    if (certChain.length < 2)
      throw new GrpcError(
        "DATA_LOSS",
        certChain.length === 0 ? "The certificate chain is empty" : "The answer holds no root",
      );
    return certChain;
  }

  [Symbol.dispose](): void {
    this.#isClosed = true;
    this.#channel?.client.close();
    this.#channel = null;
  }

  /** A failed reload keeps the old channel and is tried again at the next call. */
  async #connect(): Promise<Client> {
    if (this.#isClosed) throw new GrpcError("CANCELLED", "The CA client is closed");
    let root: Buffer | null;
    try {
      const read = await this.#options.rootCert();
      root = read === null ? null : Buffer.from(read);
      const current = this.#channel;
      if (current !== null && isSame(current.root, root)) return current.client;
      const parts = channelParts({
        address: parseServerAddress(this.#options.address),
        rootCert: root,
        ...(this.#options.altHostname === undefined
          ? {}
          : { altHostname: this.#options.altHostname }),
        ...this.#options.tls,
      });
      const client = new Client(parts.target, parts.credentials, parts.options);
      current?.client.close(); // calls in flight on it still end
      this.#channel = { root, client };
      return client;
    } catch (cause) {
      if (this.#channel !== null) return this.#channel.client;
      throw grpcError(cause);
    }
  }

  async #call(
    client: Client,
    request: IstioCertificateRequest,
    metadata: Metadata,
    signal: AbortSignal | undefined,
  ): Promise<IstioCertificateResponse> {
    const deadline = Date.now() + (this.#options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
    const { path, requestSerialize, responseDeserialize } = createCertificateMethod;
    return new Promise((resolve, reject) => {
      const call = client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        request,
        metadata,
        { deadline },
        (error, response) => {
          signal?.removeEventListener("abort", cancel);
          if (error !== null || response === undefined) reject(grpcError(error));
          else resolve(response);
        },
      );
      const cancel = (): void => call.cancel();
      signal?.addEventListener("abort", cancel, { once: true });
      if (signal?.aborted) cancel();
    });
  }
}

function isSame(a: Buffer | null, b: Buffer | null): boolean {
  return a === null || b === null ? a === b : a.equals(b);
}

// Kept connections to the API server: one agent for as long as the TLS settings stay the same.
import http from "node:http";
import https from "node:https";
import { KubeError } from "../errors.ts";
import type { Credentials, Endpoint } from "./credentials.ts";

/** A peer that vanished is noticed this much later and 10 probes of 1 s: watches send nothing. */
export const KEEPALIVE_MS = 15_000;
/** Connections without use are closed before load balancers forget them. */
const IDLE_SOCKET_MS = 60_000;

type TlsSettings = Pick<Credentials, "ca" | "cert" | "key">;

/** Owns the connections. */
export class Agents implements Disposable {
  readonly #endpoint: Endpoint;
  #current: { readonly agent: http.Agent; readonly tls: TlsSettings } | null = null;
  /** Of former settings: watches stay on them until they end. */
  readonly #former = new Set<http.Agent>();
  #isClosed = false;

  constructor(endpoint: Endpoint) {
    this.#endpoint = endpoint;
  }

  for(credentials: Credentials): http.Agent {
    if (this.#isClosed)
      throw new KubeError("UNAVAILABLE", `The client of ${this.#endpoint.url.href} is closed`);
    if (credentials.agent !== undefined) return credentials.agent;
    const { ca, cert, key } = credentials;
    if (this.#current !== null && isSame(this.#current.tls, credentials))
      return this.#current.agent;
    this.#retire();
    const agent = this.#make({ ca, cert, key });
    this.#current = { agent, tls: { ca, cert, key } };
    return agent;
  }

  [Symbol.dispose](): void {
    this.#isClosed = true;
    for (const agent of this.#former) agent.destroy();
    this.#current?.agent.destroy();
    this.#current = null;
  }

  #retire(): void {
    for (const agent of this.#former)
      if (Object.keys(agent.sockets).length === 0) {
        agent.destroy();
        this.#former.delete(agent);
      }
    if (this.#current !== null) this.#former.add(this.#current.agent);
  }

  #make({ ca, cert, key }: TlsSettings): http.Agent {
    const { serverName, isUnverified, url } = this.#endpoint;
    const settings = { keepAlive: true, keepAliveMsecs: KEEPALIVE_MS, timeout: IDLE_SOCKET_MS };
    if (url.protocol === "http:") return new http.Agent(settings);
    return new https.Agent({
      ...settings,
      ...(ca === null ? {} : { ca }),
      ...(cert === null ? {} : { cert }),
      ...(key === null ? {} : { key }),
      ...(serverName === null ? {} : { servername: serverName }),
      rejectUnauthorized: !isUnverified,
    });
  }
}

function isSame(a: TlsSettings, b: TlsSettings): boolean {
  return isSameFile(a.ca, b.ca) && isSameFile(a.cert, b.cert) && isSameFile(a.key, b.key);
}

function isSameFile(a: Buffer | string | null, b: Buffer | string | null): boolean {
  if (a === b) return true;
  if (a === null || b === null) return false;
  return Buffer.from(a).equals(Buffer.from(b));
}

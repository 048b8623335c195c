// Where the control plane is: `[https://]host[:port]`, as XDS_ADDRESS and CA_ADDRESS spell it.
import { isIP } from "node:net";
import { GrpcError } from "./errors.ts";

export interface ServerAddress {
  /** Host name or IP without brackets: the name the server must prove. */
  readonly host: string;
  readonly port: number;
}

const DEFAULT_PORT = 443;

/** @throws {GrpcError} `INVALID_ARGUMENT` for another scheme, a path, or no host */
export function parseServerAddress(text: string): ServerAddress {
  const withScheme = /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `https://${text}`;
  let url: URL;
  try {
    url = new URL(withScheme);
  } catch (cause) {
    throw invalid(text, { cause });
  }
  const isPlain = url.username === "" && url.search === "" && url.hash === "";
  if (url.protocol !== "https:" || url.hostname === "" || url.pathname !== "/" || !isPlain)
    throw invalid(text);
  const host = url.hostname.replace(/^\[(.*)\]$/, "$1");
  return { host, port: url.port === "" ? DEFAULT_PORT : Number(url.port) };
}

/** The target string grpc-js resolves: addresses directly, names over DNS. */
export function grpcTarget(address: ServerAddress): string {
  const host = isIP(address.host) === 6 ? `[${address.host}]` : address.host;
  return `dns:${host}:${address.port}`;
}

function invalid(text: string, options?: { readonly cause?: unknown }): GrpcError {
  return new GrpcError(
    "INVALID_ARGUMENT",
    `Not a server address: ${JSON.stringify(text)}, expected https://<host>:<port>`,
    options,
  );
}

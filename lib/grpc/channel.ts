// One TLS channel to the control plane: who it trusts, which name it expects, how it notices a dead peer.
import { credentials, type ChannelCredentials, type ChannelOptions } from "@grpc/grpc-js";
import { isIP } from "node:net";
import { checkServerIdentity, createSecureContext, type PeerCertificate } from "node:tls";
import { grpcTarget, type ServerAddress } from "./address.ts";

export interface ChannelSettings {
  readonly address: ServerAddress;
  /** PEM bundle; `null` means the roots of the operating system. */
  readonly rootCert: Uint8Array | null;
  /** A second name the server may prove instead. SNI stays the first. */
  readonly altHostname?: string;
  /** Default `TLSv1.3`. */
  readonly minTlsVersion?: "TLSv1.2" | "TLSv1.3";
  /** Key exchange groups, e.g. `X25519MLKEM768`; OpenSSL's choice when absent. */
  readonly groups?: string;
}

/** Contract of Istio's ztunnel: a push of a large mesh is one message. */
export const MAX_MESSAGE_BYTES = 200 * 1024 * 1024;
/** HTTP/2 PING to a silent server, and how long the answer may take. */
const KEEPALIVE_MS = 30_000;
const KEEPALIVE_TIMEOUT_MS = 10_000;
/** Room for a large push to travel at full speed on a long path. The 64 KiB default would cost a round trip each. */
const FLOW_CONTROL_WINDOW_BYTES = 4 * 1024 * 1024;
const CIPHERS =
  "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256";

export interface ChannelParts {
  readonly target: string;
  readonly credentials: ChannelCredentials;
  readonly options: ChannelOptions;
}

/** Arguments of a grpc-js `Client`. @throws {Error} when the root bundle cannot be used */
export function channelParts(settings: ChannelSettings): ChannelParts {
  const { address, altHostname } = settings;
  const context = createSecureContext({
    ...(settings.rootCert === null ? {} : { ca: Buffer.from(settings.rootCert) }),
    ...(settings.groups === undefined ? {} : { ecdhCurve: settings.groups }),
    ciphers: CIPHERS,
    minVersion: settings.minTlsVersion ?? "TLSv1.3",
  });
  return {
    target: grpcTarget(address),
    credentials: credentials.createFromSecureContext(context, {
      checkServerIdentity: (_sni, cert) => checkNames(address.host, altHostname, cert),
    }),
    options: {
      "grpc.keepalive_time_ms": KEEPALIVE_MS,
      "grpc.keepalive_timeout_ms": KEEPALIVE_TIMEOUT_MS,
      "grpc.keepalive_permit_without_calls": 1,
      "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
      "grpc.max_send_message_length": -1,
      "grpc-node.flow_control_window": FLOW_CONTROL_WINDOW_BYTES,
      "grpc.use_local_subchannel_pool": 1,
      "grpc.service_config_disable_resolution": 1,
      "grpc.enable_retries": 0,
      "grpc.enable_http_proxy": 0,
      "grpc.enable_channelz": 0,
      // An address is no valid SNI (RFC 6066 §3): the alternative name is sent, or one that names nobody.
      ...(isIP(address.host) === 0
        ? {}
        : { "grpc.ssl_target_name_override": altHostname ?? "istiod.istio-system.svc" }),
      "grpc.default_authority": authority(address),
    },
  };
}

function authority(address: ServerAddress): string {
  return isIP(address.host) === 6
    ? `[${address.host}]:${address.port}`
    : `${address.host}:${address.port}`;
}

/** A DNS (or, for an address, IP) SAN must match; the common name never counts. */
function checkNames(
  host: string,
  altHostname: string | undefined,
  cert: PeerCertificate,
): Error | undefined {
  const withoutCommonName = { ...cert, subject: { ...cert.subject, CN: "" } };
  const failure = checkServerIdentity(host, withoutCommonName);
  if (failure === undefined || altHostname === undefined) return failure;
  return checkServerIdentity(altHostname, withoutCommonName) === undefined ? undefined : failure;
}

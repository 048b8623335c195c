// Pieces that workloads, services and policies decode alike: addresses, ports, gateway references, enums.
import { cidrFromBytes, type Cidr } from "../net/cidr.ts";
import { AddressError, ipFromBytes, type Ip } from "../net/ip.ts";
import type { GatewayAddress as GatewayMessage } from "../wire/gen/workload.gen.ts";
import { ModelError } from "./errors.ts";
import type { DecodePools } from "./intern.ts";
import type { GatewayAddress } from "./workload.ts";

/** @throws {ModelError} MALFORMED instead of the codec's own error */
export function decodeMessage<T>(
  what: string,
  decode: (bytes: Uint8Array) => T,
  bytes: Uint8Array,
): T {
  try {
    return decode(bytes);
  } catch (cause) {
    throw new ModelError("MALFORMED", `Cannot decode ${what}: ${(cause as Error).message}`, {
      cause,
    });
  }
}

/** @throws {ModelError} unless 4 or 16 bytes */
export function decodeIp(field: string, bytes: Uint8Array): Ip {
  if (bytes.length !== 4 && bytes.length !== 16)
    throw new ModelError("BAD_ADDRESS", `${field} has ${bytes.length} bytes, wanted 4 or 16`);
  return ipFromBytes(bytes);
}

/** IPv4-mapped ranges become plain IPv4 ranges, as addresses do. @throws {ModelError} */
export function decodeCidr(field: string, bytes: Uint8Array, bits: number): Cidr {
  try {
    const mapped = bytes.length === 16 && bits >= 96 && bits <= 128 && isV4Mapped(bytes);
    return mapped ? cidrFromBytes(bytes.subarray(12), bits - 96) : cidrFromBytes(bytes, bits);
  } catch (cause) {
    if (!(cause instanceof AddressError)) throw cause;
    throw new ModelError("BAD_ADDRESS", `${field}: ${cause.message}`, { cause });
  }
}

/** Ports travel as 32 bits and are truncated to 16 (Istio parity). */
export function port16(value: number): number {
  return value & 0xffff;
}

/** @throws {ModelError} when neither form of destination is set, or its address is none */
export function decodeGateway(
  field: string,
  message: GatewayMessage | undefined,
  pools: DecodePools,
): GatewayAddress | null {
  if (message === undefined) return null;
  const hbonePort = port16(message.hboneMtlsPort);
  switch (message.destination?.$case) {
    case "hostname": {
      const { namespace, hostname } = message.destination.value;
      const key = `${namespace}/${hostname}:${hbonePort}`;
      const make = (): GatewayAddress =>
        Object.freeze({
          kind: "hostname",
          namespace: pools.text(namespace),
          hostname: pools.text(hostname),
          hbonePort,
        });
      return pools.gateways.find(key) ?? pools.gateways.add(key, make());
    }
    case "address": {
      const { network, address } = message.destination.value;
      const ip = decodeIp(`${field}.address`, address);
      const key = `${network}\n${ip} ${hbonePort}`;
      const make = (): GatewayAddress =>
        Object.freeze({ kind: "address", network: pools.text(network), ip, hbonePort });
      return pools.gateways.find(key) ?? pools.gateways.add(key, make());
    }
    case undefined:
      throw new ModelError("MISSING_FIELD", `${field} has no destination`);
    default:
      return message.destination satisfies never;
  }
}

/** Looks an enum number up in `names`. @throws {ModelError} for a number this release does not know */
export function enumName<T extends string>(field: string, names: readonly T[], value: number): T {
  const name = names[value];
  if (name === undefined)
    throw new ModelError("UNKNOWN_ENUM", `${field} has unknown value ${value}`);
  return name;
}

function isV4Mapped(b: Uint8Array): boolean {
  for (let i = 0; i < 10; i++) if (b[i] !== 0) return false;
  return b[10] === 0xff && b[11] === 0xff;
}

// Values to the bytes that go on the wire, once per change. Equal values give equal bytes on every
// replica: lists arrive in a defined order and maps are written in the order of their sorted keys.
import { hash } from "node:crypto";
import { type Ip, ipToBytes } from "#lib/net/ip.ts";
import type { Cidr } from "#lib/net/cidr.ts";
import { Authorization } from "#lib/wire/gen/authorization.gen.ts";
import { Policy } from "#lib/wire/gen/waypoint.gen.ts";
import {
  Address,
  type GatewayAddress,
  type NetworkAddress,
  Service,
  Workload,
} from "#lib/wire/gen/workload.gen.ts";
import type { EncodedResource } from "./mesh.ts";

/** Hex digits of the version: 64 bits, as many as Istio's xxHash64. */
const VERSION_LENGTH = 16;

export function encodeWorkload(workload: Partial<Workload> & { uid: string }): EncodedResource {
  const value = Workload.create(workload);
  return resource(workload.uid, Address.encode({ type: { $case: "workload", value } }).finish());
}

export function encodeService(
  service: Partial<Service> & { namespace: string; hostname: string },
): EncodedResource {
  const value = Service.create(service);
  return resource(
    `${service.namespace}/${service.hostname}`,
    Address.encode({ type: { $case: "service", value } }).finish(),
  );
}

export function encodeAuthorization(
  policy: Partial<Authorization> & { namespace: string; name: string },
): EncodedResource {
  return resource(
    `${policy.namespace}/${policy.name}`,
    Authorization.encode(Authorization.create(policy)).finish(),
  );
}

/** What a waypoint of ours is told of a policy. */
export function encodeWaypointPolicy(
  policy: Omit<Policy, "authorization"> & {
    readonly authorization: Partial<Authorization> & { namespace: string; name: string };
  },
): EncodedResource {
  const { namespace, name } = policy.authorization;
  const authorization = Authorization.create(policy.authorization);
  return resource(`${namespace}/${name}`, Policy.encode({ ...policy, authorization }).finish());
}

export function sameResource(a: EncodedResource, b: EncodedResource): boolean {
  return a.version === b.version && Buffer.compare(a.bytes, b.bytes) === 0;
}

/** `network/ip`, as Istio keys addresses. */
export function addressKey(network: string, ip: string): string {
  return `${network}/${ip}`;
}

export function ipBytes(ip: Ip): Buffer {
  return Buffer.from(ipToBytes(ip));
}

export function networkAddress(network: string, ip: Ip): NetworkAddress {
  return { network, address: ipBytes(ip), length: undefined };
}

/** A single address carries no length. */
export function networkRange(network: string, { bytes, bits }: Cidr): NetworkAddress {
  return {
    network,
    address: Buffer.from(bytes),
    length: bits === bytes.length * 8 ? undefined : bits,
  };
}

export function gatewayAddress(
  to:
    | { readonly namespace: string; readonly hostname: string }
    | { readonly network: string; readonly ip: Ip },
  hboneMtlsPort: number,
): GatewayAddress {
  return "hostname" in to
    ? {
        destination: {
          $case: "hostname",
          value: { namespace: to.namespace, hostname: to.hostname },
        },
        hboneMtlsPort,
      }
    : {
        destination: { $case: "address", value: networkAddress(to.network, to.ip) },
        hboneMtlsPort,
      };
}

function resource(name: string, bytes: Uint8Array): EncodedResource {
  return { name, version: hash("sha1", bytes, "hex").slice(0, VERSION_LENGTH), bytes };
}

// The edge of the Workload API: resource bytes become a Workload or a Service, or a ModelError that names the
// field. Policies: decode-authorization.ts. Nothing behind these files looks at protobuf.
import { Address } from "../wire/gen/workload.gen.ts";
import { decodeMessage } from "./decode-parts.ts";
import { serviceFromMessage } from "./decode-service.ts";
import { workloadFromMessage } from "./decode-workload.ts";
import { ModelError } from "./errors.ts";
import { DecodePools } from "./intern.ts";
import type { Service } from "./service.ts";
import type { Workload } from "./workload.ts";

export type AddressResource =
  | { readonly kind: "workload"; readonly workload: Workload }
  | { readonly kind: "service"; readonly service: Service };

/**
 * @param bytes  a serialised istio.workload.Address; not kept
 * @param pools  values shared with earlier results; pass one for all resources of a table
 * @throws {ModelError} for malformed bytes, an unset `type`, and what `workloadFromMessage` and `serviceFromMessage` refuse
 */
export function decodeAddress(bytes: Uint8Array, pools = new DecodePools()): AddressResource {
  const { type } = decodeMessage("Address", (b) => Address.decode(b), bytes);
  switch (type?.$case) {
    case "workload":
      return { kind: "workload", workload: workloadFromMessage(type.value, pools) };
    case "service":
      return { kind: "service", service: serviceFromMessage(type.value, pools) };
    case undefined:
      throw new ModelError("MISSING_FIELD", "Address holds neither a workload nor a service");
    default:
      return type satisfies never;
  }
}

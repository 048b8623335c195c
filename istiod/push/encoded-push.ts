// Responses as bytes ready to be written to any number of streams.
import {
  encodeDeltaResponse,
  type OutgoingResource,
  type OutgoingResponse,
} from "#lib/grpc/delta-messages.ts";

export interface EncodedPush {
  readonly typeUrl: string;
  readonly nonce: string;
  readonly bytes: Buffer;
}

/** Clients read messages of at most 200 MiB (contract of ztunnel); larger answers go in several. */
const MAX_RESPONSE_BYTES = 96 * 1024 * 1024;
/** Name, version and framing of a resource, estimated high. */
const RESOURCE_OVERHEAD = 192;

/** Encodes a response in as many messages as its size needs; the last one has the given nonce and the removals. */
export function encodeResponse(response: OutgoingResponse, nonce: () => string): EncodedPush[] {
  const { typeUrl } = response;
  return pieces(response.resources).map((resources, index, all) => {
    const isLast = index === all.length - 1;
    const piece = isLast
      ? { ...response, resources }
      : { ...response, resources, removed: [], nonce: nonce() };
    return { typeUrl, nonce: piece.nonce, bytes: encodeDeltaResponse(piece) };
  });
}

/** At least one piece, if only an empty one. */
function pieces(resources: readonly OutgoingResource[]): readonly (readonly OutgoingResource[])[] {
  const cuts: OutgoingResource[][] = [[]];
  let bytes = 0;
  for (const resource of resources) {
    const size = resource.bytes.length + RESOURCE_OVERHEAD;
    if (bytes + size > MAX_RESPONSE_BYTES) {
      cuts.push([]);
      bytes = 0;
    }
    bytes += size;
    cuts.at(-1)?.push(resource);
  }
  return cuts;
}

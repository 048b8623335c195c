// The two services of the control plane as grpc-js method tables, over the generated codecs.
import type { MethodDefinition } from "@grpc/grpc-js";
import { IstioCertificateRequest, IstioCertificateResponse } from "../wire/gen/ca.gen.ts";
import { DeltaDiscoveryRequest } from "../wire/gen/discovery.gen.ts";
import { decodeDeltaResponse, type IncomingResponse } from "./delta-messages.ts";

/** What a server passes to `write`: bytes made by `encodeDeltaResponse`, possibly for many streams at once. */
export type EncodedResponse = Buffer;

const delta = {
  path: "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
  requestStream: true,
  responseStream: true,
  requestSerialize: (request: DeltaDiscoveryRequest) => view(DeltaDiscoveryRequest.encode(request)),
  requestDeserialize: (bytes: Buffer) => DeltaDiscoveryRequest.decode(bytes),
} as const;

/** Client side: responses arrive as views into the message. */
export const deltaClientMethod: MethodDefinition<DeltaDiscoveryRequest, IncomingResponse> = {
  ...delta,
  responseSerialize: () => {
    throw new TypeError("The client side of the delta method sends no responses");
  },
  responseDeserialize: decodeDeltaResponse,
};

/** Server side: responses leave as bytes that are encoded already. */
export const deltaServerMethod: MethodDefinition<DeltaDiscoveryRequest, EncodedResponse> = {
  ...delta,
  responseSerialize: (bytes) => bytes,
  responseDeserialize: (bytes) => bytes,
};

/** Parsed before anybody knows who sent it. Real ones are below 4 KiB. */
const MAX_CERTIFICATE_REQUEST_BYTES = 256 * 1024;

export const createCertificateMethod: MethodDefinition<
  IstioCertificateRequest,
  IstioCertificateResponse
> = {
  path: "/istio.v1.auth.IstioCertificateService/CreateCertificate",
  requestStream: false,
  responseStream: false,
  requestSerialize: (request) => view(IstioCertificateRequest.encode(request)),
  requestDeserialize: (bytes) => {
    if (bytes.length > MAX_CERTIFICATE_REQUEST_BYTES)
      throw new RangeError(`Certificate request of ${bytes.length} bytes`);
    return IstioCertificateRequest.decode(bytes);
  },
  responseSerialize: (response) => view(IstioCertificateResponse.encode(response)),
  responseDeserialize: (bytes) => IstioCertificateResponse.decode(bytes),
};

function view(writer: { finish(): Uint8Array }): Buffer {
  const bytes = writer.finish();
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

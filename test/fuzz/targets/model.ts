// The decoders behind xDS: an Address or an Authorization becomes a record, or a ModelError for the NACK.
import { decodeAuthorization } from "#lib/model/decode-authorization.ts";
import { decodeAddress } from "#lib/model/decode.ts";
import { ModelError } from "#lib/model/errors.ts";
import type { FuzzTarget } from "../target.ts";
import { addressCorpus, authorizationCorpus } from "../workload-corpus.ts";

export const target: FuzzTarget = {
  name: "model",
  corpus: [
    ...addressCorpus().map((bytes) => Buffer.concat([Buffer.of(0), bytes])),
    ...authorizationCorpus().map((bytes) => Buffer.concat([Buffer.of(1), bytes])),
  ],
  refusals: [ModelError],
  run(bytes) {
    const body = bytes.subarray(1);
    if (((bytes[0] ?? 0) & 1) === 0) return decodeAddress(body).kind;
    return `policy ${decodeAuthorization("default/deny", body).action}`;
  },
};

// A target with a bug, for the fuzzer's own test: never ends on a second zero octet.
import type { FuzzTarget } from "../target.ts";

export const target: FuzzTarget = {
  name: "hang",
  corpus: [Uint8Array.of(1), Uint8Array.of(0, 0)],
  refusals: [],
  run(bytes) {
    while (bytes[1] === 0);
    return "fine";
  },
};

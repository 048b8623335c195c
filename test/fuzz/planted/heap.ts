// A target with a bug, for the fuzzer's own test: keeps everything on a leading 7.
import type { FuzzTarget } from "../target.ts";

const kept: unknown[] = [];

export const target: FuzzTarget = {
  name: "heap",
  corpus: [Uint8Array.of(1), Uint8Array.of(7)],
  refusals: [],
  run(bytes) {
    while (bytes[0] === 7) kept.push(Array.from({ length: 10_000 }, () => ({ kept })));
    return "fine";
  },
};

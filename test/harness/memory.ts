// Memory in use, garbage not counted: when the collector last ran is no property of the code under test.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** Bytes reachable now: on the heap, and in array buffers. */
export function memoryHeld(): { heap: number; buffers: number } {
  setFlagsFromString("--expose-gc");
  const collect: () => void = runInNewContext("gc");
  // Buffers that the first run found dead are given back by the second.
  collect();
  collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return { heap: heapUsed, buffers: arrayBuffers };
}

// Gives memory back once a thread has loaded its program: what loading left behind, and code that ran
// once. A proxy idles on every node, so a few megabytes of each count.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

type Collect = (options: { type: "major"; execution: "sync"; flavor: "last-resort" }) => void;

/** Stops this thread for about 30 ms at the size of a start; call it when nothing waits. */
export function trimHeap(): void {
  // Flags are the process's: taken back here, it would be gone under another thread that trims as well.
  setFlagsFromString("--expose-gc");
  const collect = runInNewContext("gc") as Collect;
  collect({ type: "major", execution: "sync", flavor: "last-resort" });
}

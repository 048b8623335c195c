// Gives memory back once a thread has loaded its program: what loading left behind, and code that ran
// once. A proxy idles on every node, so a few megabytes of each count.

type Collect = (options: { type: "major"; execution: "sync"; flavor: "last-resort" }) => void;

/** Lets a thread ask for a collection; without it `trimHeap` does nothing. */
export const TRIM_FLAG = "--expose-gc";

/** Stops this thread for about 30 ms at the size of a start; call it when nothing waits. */
export function trimHeap(): void {
  const { gc } = globalThis as { readonly gc?: Collect };
  gc?.({ type: "major", execution: "sync", flavor: "last-resort" });
}

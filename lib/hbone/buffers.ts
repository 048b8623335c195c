// Memory of this thread's tunnels: one buffer to read into, shared by all, and write buffers that a
// tunnel borrows while it has something to send. An idle tunnel holds neither.
import { nativeBuffer, type NativeBuffer } from "#lib/sys/memory.ts";

/** A turn reads at most this much from one tunnel, plus what was left of the last frame. */
export const READ_SIZE = 262_144 + 65_536;
/** Eight 64 KiB frames with their headers, and room for control frames. */
export const WRITE_SIZE = 8 * (65_536 + 9) + 32_768;
/** Kept for the next borrower; more than this many go back to the system. */
const KEEP = 4;

let scratch: NativeBuffer | null = null;
const free: NativeBuffer[] = [];

/** The read buffer of this thread; its bytes are good until the next tunnel reads. */
export function readScratch(): NativeBuffer {
  scratch ??= nativeBuffer(READ_SIZE);
  return scratch;
}

export function takeWriteBuffer(): NativeBuffer {
  return free.pop() ?? nativeBuffer(WRITE_SIZE);
}

/** The caller no longer touches it. */
export function giveWriteBuffer(buffer: NativeBuffer): void {
  if (free.length < KEEP) free.push(buffer);
}

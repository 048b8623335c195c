// Memory whose address C knows: a buffer outside the pool, and its address as a number.
import { addressOf } from "./raw.ts";

export interface NativeBuffer {
  readonly bytes: Buffer;
  readonly address: number;
  readonly size: number;
}

/** The memory does not move and lives as long as `bytes` is reachable. Not zeroed; pages are touched on use. */
export function nativeBuffer(size: number): NativeBuffer {
  const bytes = Buffer.allocUnsafeSlow(size);
  return { bytes, address: addressOf(bytes), size };
}

/** A NUL-terminated copy of `text`. */
export function cString(text: string): NativeBuffer {
  const bytes = Buffer.allocUnsafeSlow(Buffer.byteLength(text) + 1);
  bytes.write(text, 0, "utf8");
  bytes[bytes.length - 1] = 0;
  return { bytes, address: addressOf(bytes), size: bytes.length };
}

// HTTP/2 frame headers and SETTINGS as plain reading and writing, for peers and oracles of tests: the session
// itself works on its buffers in place.
import {
  checkFrame,
  checkSetting,
  FRAME,
  FRAME_HEADER_BYTES,
  type Http2Violation,
} from "#lib/wire/http2.ts";

const SETTING_BYTES = 6;

/**
 * Reads a SETTINGS payload in order. Unknown ids are passed on too; ignore them (§6.5.2).
 * @returns the first bad value, with nothing delivered from there on; the connection has to end
 */
export function parseSettings(
  bytes: Uint8Array,
  start: number,
  end: number,
  onSetting: (id: number, value: number) => void,
): Http2Violation | null {
  const violation = checkFrame(FRAME.SETTINGS, 0, 0, end - start);
  if (violation !== null) return violation;
  for (let at = start; at < end; at += SETTING_BYTES) {
    const id = (bytes[at]! << 8) | bytes[at + 1]!;
    const value = readUint32(bytes, at + 2);
    const bad = checkSetting(id, value);
    if (bad !== null) return bad;
    onSetting(id, value);
  }
  return null;
}

/** A whole SETTINGS frame, header included. */
export function encodeSettings(
  settings: readonly (readonly [id: number, value: number])[],
): Uint8Array {
  const out = new Uint8Array(FRAME_HEADER_BYTES + settings.length * SETTING_BYTES);
  let at = writeFrameHeader(out, 0, settings.length * SETTING_BYTES, FRAME.SETTINGS, 0, 0);
  for (const [id, value] of settings) {
    out[at++] = id >>> 8;
    out[at++] = id;
    at = writeUint32(out, at, value);
  }
  return out;
}

/**
 * ```
 * +-----------------------------------------------+
 * |                 length (24)                   |
 * +---------------+---------------+---------------+
 * |   type (8)    |   flags (8)   |
 * +-+-------------+---------------+-------------------------------+
 * |0|                 stream id (31)                              |
 * +-+-------------------------------------------------------------+
 * ```
 * @returns the offset behind the nine octets
 */
export function writeFrameHeader(
  out: Uint8Array,
  offset: number,
  length: number,
  type: number,
  flags: number,
  streamId: number,
): number {
  out[offset] = length >>> 16;
  out[offset + 1] = length >>> 8;
  out[offset + 2] = length;
  out[offset + 3] = type;
  out[offset + 4] = flags;
  return writeUint32(out, offset + 5, streamId);
}

/** Payload octets of the frame whose header starts at `offset`. */
export function frameLength(bytes: Uint8Array, offset: number): number {
  return (bytes[offset]! << 16) | (bytes[offset + 1]! << 8) | bytes[offset + 2]!;
}

export function frameType(bytes: Uint8Array, offset: number): number {
  return bytes[offset + 3]!;
}

export function frameFlags(bytes: Uint8Array, offset: number): number {
  return bytes[offset + 4]!;
}

/** The reserved bit is dropped (RFC 9113 §4.1). */
export function frameStreamId(bytes: Uint8Array, offset: number): number {
  return readUint31(bytes, offset + 5);
}

/** Big-endian, unsigned. */
export function readUint32(bytes: Uint8Array, offset: number): number {
  return (
    ((bytes[offset]! << 24) |
      (bytes[offset + 1]! << 16) |
      (bytes[offset + 2]! << 8) |
      bytes[offset + 3]!) >>>
    0
  );
}

/** Stream ids and window increments: the top bit is reserved. */
export function readUint31(bytes: Uint8Array, offset: number): number {
  return readUint32(bytes, offset) & 0x7fff_ffff;
}

/** @returns the offset behind the four octets */
function writeUint32(out: Uint8Array, offset: number, value: number): number {
  out[offset] = value >>> 24;
  out[offset + 1] = value >>> 16;
  out[offset + 2] = value >>> 8;
  out[offset + 3] = value;
  return offset + 4;
}

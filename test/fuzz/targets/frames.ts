// HTTP/2 frame headers and SETTINGS, as a session would walk a receive buffer.
import assert from "node:assert/strict";
import { checkFrame, FLAG, FRAME, FRAME_HEADER_BYTES } from "#lib/wire/http2.ts";
import {
  encodeSettings,
  frameFlags,
  frameLength,
  frameStreamId,
  frameType,
  parseSettings,
  writeFrameHeader,
} from "../../harness/h2-frames.ts";
import type { FuzzTarget } from "../target.ts";
import { hex } from "../target.ts";

const MAX_FRAME_BYTES = 16_384;

export const target: FuzzTarget = {
  name: "frames",
  corpus: [
    encodeSettings([
      [2, 0],
      [4, 4_194_304],
      [5, 1_048_576],
    ]),
    ...hex(
      "000000 04 01 00000000",
      "000008 06 00 00000000 0102030405060708",
      "000004 08 00 00000001 00010000",
      "000004 03 00 00000001 00000008",
      "000008 07 00 00000000 7fffffff 00000000",
      "000005 00 01 00000001 68656c6c6f 000000 00 01 00000003",
      "000001 01 04 00000001 88 000001 09 04 00000001 88",
      "000005 02 00 00000003 0000000010",
    ),
  ],
  refusals: [],
  run(bytes) {
    let at = 0;
    let frames = 0;
    const types = new Set<number>();
    while (at + FRAME_HEADER_BYTES <= bytes.length && frames < 1000) {
      const [type, flags] = [frameType(bytes, at), frameFlags(bytes, at)];
      const [streamId, length] = [frameStreamId(bytes, at), frameLength(bytes, at)];
      const copy = new Uint8Array(FRAME_HEADER_BYTES);
      writeFrameHeader(copy, 0, length, type, flags, streamId);
      copy[5]! |= bytes[at + 5]! & 0x80;
      assert.deepEqual(copy, Uint8Array.from(bytes.subarray(at, at + FRAME_HEADER_BYTES)));
      const violation = checkFrame(type, flags, streamId, length, MAX_FRAME_BYTES);
      if (violation !== null) return `type ${type > 9 ? "unknown" : type}: ${violation.reason}`;
      assert.ok(length <= MAX_FRAME_BYTES);
      at += FRAME_HEADER_BYTES;
      if (at + length > bytes.length) return "cut short";
      if (type === FRAME.SETTINGS && (flags & FLAG.ACK) === 0) {
        const settings: [number, number][] = [];
        const bad = parseSettings(bytes, at, at + length, (id, value) =>
          settings.push([id, value]),
        );
        if (bad !== null) return bad.reason;
        const again = encodeSettings(settings).subarray(FRAME_HEADER_BYTES);
        assert.deepEqual(again, Uint8Array.from(bytes.subarray(at, at + length)));
      }
      at += length;
      frames++;
      types.add(type > 9 ? 10 : type);
    }
    return `types ${[...types].toSorted((a, b) => a - b).join(" ")}`;
  },
};

// The rules of RFC 9113 section 6 as a table, and settings and headers out and in.
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  encodeSettings,
  frameFlags,
  frameLength,
  frameStreamId,
  frameType,
  parseSettings,
  readUint31,
  readUint32,
  writeFrameHeader,
} from "../../test/harness/h2-frames.ts";
import {
  checkFrame,
  checkSetting,
  ERROR,
  FLAG,
  FRAME,
  FRAME_HEADER_BYTES,
  SETTING,
} from "./http2.ts";

const { PROTOCOL_ERROR, FRAME_SIZE_ERROR, FLOW_CONTROL_ERROR } = ERROR;

for (const [type, flags, streamId, length, want] of [
  [FRAME.DATA, 0, 1, 0, null],
  [FRAME.DATA, 0, 0, 0, [PROTOCOL_ERROR, "connection"]],
  [FRAME.DATA, FLAG.PADDED, 1, 1, null],
  [FRAME.DATA, FLAG.PADDED, 1, 0, [FRAME_SIZE_ERROR, "stream"]],
  [FRAME.HEADERS, FLAG.END_HEADERS, 1, 0, null],
  [FRAME.HEADERS, 0, 0, 9, [PROTOCOL_ERROR, "connection"]],
  [FRAME.HEADERS, FLAG.PADDED, 1, 0, [FRAME_SIZE_ERROR, "connection"]],
  [FRAME.HEADERS, FLAG.PRIORITY, 1, 4, [FRAME_SIZE_ERROR, "connection"]],
  [FRAME.HEADERS, FLAG.PRIORITY, 1, 5, null],
  [FRAME.HEADERS, FLAG.PRIORITY | FLAG.PADDED, 1, 5, [FRAME_SIZE_ERROR, "connection"]],
  [FRAME.HEADERS, FLAG.PRIORITY | FLAG.PADDED, 1, 6, null],
  [FRAME.PRIORITY, 0, 3, 5, null],
  [FRAME.PRIORITY, 0, 0, 5, [PROTOCOL_ERROR, "connection"]],
  [FRAME.PRIORITY, 0, 3, 4, [FRAME_SIZE_ERROR, "stream"]],
  [FRAME.RST_STREAM, 0, 1, 4, null],
  [FRAME.RST_STREAM, 0, 0, 4, [PROTOCOL_ERROR, "connection"]],
  [FRAME.RST_STREAM, 0, 1, 5, [FRAME_SIZE_ERROR, "connection"]],
  [FRAME.SETTINGS, 0, 0, 0, null],
  [FRAME.SETTINGS, 0, 0, 12, null],
  [FRAME.SETTINGS, 0, 0, 7, [FRAME_SIZE_ERROR, "connection"]],
  [FRAME.SETTINGS, 0, 1, 6, [PROTOCOL_ERROR, "connection"]],
  [FRAME.SETTINGS, FLAG.ACK, 0, 0, null],
  [FRAME.SETTINGS, FLAG.ACK, 0, 6, [FRAME_SIZE_ERROR, "connection"]],
  [FRAME.PUSH_PROMISE, FLAG.END_HEADERS, 1, 4, [PROTOCOL_ERROR, "connection"]],
  [FRAME.PING, 0, 0, 8, null],
  [FRAME.PING, FLAG.ACK, 0, 7, [FRAME_SIZE_ERROR, "connection"]],
  [FRAME.PING, 0, 1, 8, [PROTOCOL_ERROR, "connection"]],
  [FRAME.GOAWAY, 0, 0, 8, null],
  [FRAME.GOAWAY, 0, 0, 100, null],
  [FRAME.GOAWAY, 0, 0, 7, [FRAME_SIZE_ERROR, "connection"]],
  [FRAME.GOAWAY, 0, 1, 8, [PROTOCOL_ERROR, "connection"]],
  [FRAME.WINDOW_UPDATE, 0, 0, 4, null],
  [FRAME.WINDOW_UPDATE, 0, 5, 4, null],
  [FRAME.WINDOW_UPDATE, 0, 5, 3, [FRAME_SIZE_ERROR, "connection"]],
  [FRAME.CONTINUATION, 0, 1, 0, null],
  [FRAME.CONTINUATION, 0, 0, 0, [PROTOCOL_ERROR, "connection"]],
  [0x0a, 0xff, 0, 77, null],
  [0xff, 0xff, 9, 77, null],
  [FRAME.DATA, 0, 1, 16_385, [FRAME_SIZE_ERROR, "stream"]],
  [FRAME.HEADERS, 0, 1, 16_385, [FRAME_SIZE_ERROR, "connection"]],
  [FRAME.CONTINUATION, 0, 1, 16_385, [FRAME_SIZE_ERROR, "connection"]],
  [0x0a, 0, 0, 16_385, [FRAME_SIZE_ERROR, "connection"]],
] as const)
  test(`frame type ${type} flags ${flags} stream ${streamId} length ${length}: ${want?.join(" ") ?? "fine"}`, () => {
    const got = checkFrame(type, flags, streamId, length, 16_384);
    assert.deepEqual(got === null ? null : [got.code, got.scope], want);
  });

test("a frame header survives its writer and readers", () => {
  const bytes = new Uint8Array(12).fill(0xff);
  assert.equal(writeFrameHeader(bytes, 2, 0x01_02_03, FRAME.HEADERS, 0x25, 0x7fff_fffd), 11);
  assert.deepEqual(
    [frameLength(bytes, 2), frameType(bytes, 2), frameFlags(bytes, 2), frameStreamId(bytes, 2)],
    [0x01_02_03, FRAME.HEADERS, 0x25, 0x7fff_fffd],
  );
  assert.equal(bytes[11], 0xff);
});

test("the reserved bit is ignored, the rest is unsigned", () => {
  const bytes = Uint8Array.of(0xff, 0xff, 0xff, 0xff);
  assert.equal(readUint31(bytes, 0), 0x7fff_ffff);
  assert.equal(readUint32(bytes, 0), 0xffff_ffff);
});

test("settings go out as one frame and come back in order", () => {
  const settings = [
    [SETTING.INITIAL_WINDOW_SIZE, 4_194_304],
    [SETTING.MAX_FRAME_SIZE, 1_048_576],
    [SETTING.MAX_HEADER_LIST_SIZE, 0xffff_ffff],
    [0xabcd, 7],
  ] as const;
  const frame = encodeSettings(settings);
  assert.equal(frame.length, FRAME_HEADER_BYTES + frameLength(frame, 0));
  assert.equal(checkFrame(frameType(frame, 0), 0, 0, frameLength(frame, 0)), null);
  const got: [number, number][] = [];
  assert.equal(
    parseSettings(frame, FRAME_HEADER_BYTES, frame.length, (...s) => got.push(s)),
    null,
  );
  assert.deepEqual(got, settings);
});

for (const [id, value, code] of [
  [SETTING.ENABLE_PUSH, 2, PROTOCOL_ERROR],
  [SETTING.ENABLE_CONNECT_PROTOCOL, 2, PROTOCOL_ERROR],
  [SETTING.INITIAL_WINDOW_SIZE, 0x8000_0000, FLOW_CONTROL_ERROR],
  [SETTING.MAX_FRAME_SIZE, 16_383, PROTOCOL_ERROR],
  [SETTING.MAX_FRAME_SIZE, 16_777_216, PROTOCOL_ERROR],
] as const)
  test(`setting ${id} = ${value} is refused`, () => {
    assert.equal(checkSetting(id, value)?.code, code);
    const frame = encodeSettings([[id, value]]);
    const got = parseSettings(frame, FRAME_HEADER_BYTES, frame.length, () => assert.fail());
    assert.equal(got?.code, code);
  });

test("a settings payload of odd length is refused", () => {
  assert.equal(parseSettings(new Uint8Array(7), 0, 7, () => assert.fail())?.code, FRAME_SIZE_ERROR);
});

// HTTP/2 on the wire (RFC 9113): constants, and the rules of section 6 for frame headers and settings that need
// no connection state. Pure. The bytes themselves are the session's to read and write, in its own buffers.

/** RFC 9113 §3.4: what a client sends first, before its SETTINGS frame. */
export const PREFACE: Uint8Array = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

/** RFC 9113 §6. */
export const FRAME = {
  DATA: 0x0,
  HEADERS: 0x1,
  PRIORITY: 0x2,
  RST_STREAM: 0x3,
  SETTINGS: 0x4,
  PUSH_PROMISE: 0x5,
  PING: 0x6,
  GOAWAY: 0x7,
  WINDOW_UPDATE: 0x8,
  CONTINUATION: 0x9,
} as const;

/** Several names share a bit; which one is meant depends on the frame type. */
export const FLAG = {
  END_STREAM: 0x1,
  ACK: 0x1,
  END_HEADERS: 0x4,
  PADDED: 0x8,
  PRIORITY: 0x20,
} as const;

/** RFC 9113 §7. */
export const ERROR = {
  NO_ERROR: 0x0,
  PROTOCOL_ERROR: 0x1,
  INTERNAL_ERROR: 0x2,
  FLOW_CONTROL_ERROR: 0x3,
  SETTINGS_TIMEOUT: 0x4,
  STREAM_CLOSED: 0x5,
  FRAME_SIZE_ERROR: 0x6,
  REFUSED_STREAM: 0x7,
  CANCEL: 0x8,
  COMPRESSION_ERROR: 0x9,
  CONNECT_ERROR: 0xa,
  ENHANCE_YOUR_CALM: 0xb,
  INADEQUATE_SECURITY: 0xc,
  HTTP_1_1_REQUIRED: 0xd,
} as const;

/** RFC 9113 §6.5.2; the last one is RFC 8441 §3. */
export const SETTING = {
  HEADER_TABLE_SIZE: 0x1,
  ENABLE_PUSH: 0x2,
  MAX_CONCURRENT_STREAMS: 0x3,
  INITIAL_WINDOW_SIZE: 0x4,
  MAX_FRAME_SIZE: 0x5,
  MAX_HEADER_LIST_SIZE: 0x6,
  ENABLE_CONNECT_PROTOCOL: 0x8,
} as const;

type Http2ErrorCode = (typeof ERROR)[keyof typeof ERROR];

export const FRAME_HEADER_BYTES = 9;
/** Before SETTINGS say otherwise (RFC 9113 §6.5.2, §6.9.2). */
export const DEFAULT_WINDOW_BYTES = 65_535;
const DEFAULT_FRAME_BYTES = 16_384;
export const MAX_WINDOW_BYTES = 0x7fff_ffff;
const MAX_FRAME_BYTES = 0xff_ffff;
/** One entry of a SETTINGS payload: 16 bits of id, 32 of value. */
const SETTING_BYTES = 6;

/** What a peer did wrong, and how far the damage goes (RFC 9113 §5.4). */
export interface Http2Violation {
  readonly code: Http2ErrorCode;
  readonly scope: "connection" | "stream";
  readonly reason: string;
}

/**
 * Checks a frame header against RFC 9113 §4.2 and §6. Stream states, windows and the order of
 * CONTINUATION frames are the session's to check. Unknown types pass: they are to be ignored (§4.1).
 * Hot path: runs per frame; allocates nothing.
 * @param maxFrameBytes the SETTINGS_MAX_FRAME_SIZE we announced
 */
export function checkFrame(
  type: number,
  flags: number,
  streamId: number,
  length: number,
  maxFrameBytes: number = MAX_FRAME_BYTES,
): Http2Violation | null {
  if (length > maxFrameBytes)
    return streamId === 0 || carriesFieldBlock(type) || type === FRAME.SETTINGS
      ? TOO_LARGE_FOR_CONNECTION
      : TOO_LARGE_FOR_STREAM;
  switch (type) {
    case FRAME.DATA:
      if (streamId === 0) return NEEDS_STREAM;
      return (flags & FLAG.PADDED) !== 0 && length < 1 ? SHORT_DATA : null;
    case FRAME.HEADERS: {
      if (streamId === 0) return NEEDS_STREAM;
      const least = ((flags & FLAG.PADDED) !== 0 ? 1 : 0) + ((flags & FLAG.PRIORITY) !== 0 ? 5 : 0);
      return length < least ? SHORT_HEADERS : null;
    }
    case FRAME.PRIORITY:
      if (streamId === 0) return NEEDS_STREAM;
      return length !== 5 ? PRIORITY_SIZE : null;
    case FRAME.RST_STREAM:
      if (streamId === 0) return NEEDS_STREAM;
      return length !== 4 ? RST_STREAM_SIZE : null;
    case FRAME.SETTINGS:
      if (streamId !== 0) return NEEDS_NO_STREAM;
      if ((flags & FLAG.ACK) !== 0) return length !== 0 ? SETTINGS_ACK_SIZE : null;
      return length % SETTING_BYTES !== 0 ? SETTINGS_SIZE : null;
    case FRAME.PUSH_PROMISE:
      return PUSH;
    case FRAME.PING:
      if (streamId !== 0) return NEEDS_NO_STREAM;
      return length !== 8 ? PING_SIZE : null;
    case FRAME.GOAWAY:
      if (streamId !== 0) return NEEDS_NO_STREAM;
      return length < 8 ? GOAWAY_SIZE : null;
    case FRAME.WINDOW_UPDATE:
      return length !== 4 ? WINDOW_UPDATE_SIZE : null;
    case FRAME.CONTINUATION:
      return streamId === 0 ? NEEDS_STREAM : null;
    default:
      return null;
  }
}

/** RFC 9113 §6.5.2: the bounds of each value. */
export function checkSetting(id: number, value: number): Http2Violation | null {
  switch (id) {
    case SETTING.ENABLE_PUSH:
      return value > 1 ? SETTING_NOT_BOOLEAN : null;
    case SETTING.ENABLE_CONNECT_PROTOCOL:
      return value > 1 ? SETTING_NOT_BOOLEAN : null;
    case SETTING.INITIAL_WINDOW_SIZE:
      return value > MAX_WINDOW_BYTES ? SETTING_WINDOW : null;
    case SETTING.MAX_FRAME_SIZE:
      return value < DEFAULT_FRAME_BYTES || value > MAX_FRAME_BYTES ? SETTING_FRAME_SIZE : null;
    default:
      return null;
  }
}

function carriesFieldBlock(type: number): boolean {
  return type === FRAME.HEADERS || type === FRAME.PUSH_PROMISE || type === FRAME.CONTINUATION;
}

function violation(
  code: Http2ErrorCode,
  scope: Http2Violation["scope"],
  reason: string,
): Http2Violation {
  return Object.freeze({ code, scope, reason });
}

const { PROTOCOL_ERROR, FRAME_SIZE_ERROR, FLOW_CONTROL_ERROR } = ERROR;
// One object per rule, made once: refusing a frame costs nothing.
const NEEDS_STREAM = violation(PROTOCOL_ERROR, "connection", "Frame needs a stream, got stream 0");
const NEEDS_NO_STREAM = violation(PROTOCOL_ERROR, "connection", "Frame belongs on stream 0");
/** As clients we disable push (§8.4), and clients cannot push to us. */
const PUSH = violation(PROTOCOL_ERROR, "connection", "PUSH_PROMISE although push is disabled");
const SHORT_DATA = violation(FRAME_SIZE_ERROR, "stream", "DATA is too short for its pad length");
const SHORT_HEADERS = violation(
  FRAME_SIZE_ERROR,
  "connection",
  "HEADERS is too short for its pad length or priority",
);
const PRIORITY_SIZE = violation(FRAME_SIZE_ERROR, "stream", "PRIORITY is not 5 octets long");
const RST_STREAM_SIZE = violation(
  FRAME_SIZE_ERROR,
  "connection",
  "RST_STREAM is not 4 octets long",
);
const SETTINGS_ACK_SIZE = violation(
  FRAME_SIZE_ERROR,
  "connection",
  "SETTINGS acknowledgement has a payload",
);
const SETTINGS_SIZE = violation(
  FRAME_SIZE_ERROR,
  "connection",
  "SETTINGS is not a multiple of 6 octets",
);
const PING_SIZE = violation(FRAME_SIZE_ERROR, "connection", "PING is not 8 octets long");
const GOAWAY_SIZE = violation(FRAME_SIZE_ERROR, "connection", "GOAWAY is shorter than 8 octets");
const WINDOW_UPDATE_SIZE = violation(
  FRAME_SIZE_ERROR,
  "connection",
  "WINDOW_UPDATE is not 4 octets long",
);
const TOO_LARGE_FOR_CONNECTION = violation(
  FRAME_SIZE_ERROR,
  "connection",
  "Frame is larger than our SETTINGS_MAX_FRAME_SIZE",
);
const TOO_LARGE_FOR_STREAM = violation(
  FRAME_SIZE_ERROR,
  "stream",
  "Frame is larger than our SETTINGS_MAX_FRAME_SIZE",
);
const SETTING_NOT_BOOLEAN = violation(PROTOCOL_ERROR, "connection", "Setting is neither 0 nor 1");
const SETTING_WINDOW = violation(
  FLOW_CONTROL_ERROR,
  "connection",
  "SETTINGS_INITIAL_WINDOW_SIZE is above 2^31-1",
);
const SETTING_FRAME_SIZE = violation(
  PROTOCOL_ERROR,
  "connection",
  "SETTINGS_MAX_FRAME_SIZE is outside 2^14 to 2^24-1",
);

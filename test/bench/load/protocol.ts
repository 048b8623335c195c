// What load client and server agree on: the first byte of a connection chooses what the server does,
// so that one port serves every figure. All sizes in bytes.

/** Discards what comes. */
export const SINK = 0x53; // S
/** Answers each byte with the bytes all sinks have received so far, 64-bit big-endian. */
export const COUNT = 0x43; // C
/** Returns what comes, the first byte not included. */
export const ECHO = 0x45; // E
/** HTTP/1.1 GET with keep-alive: the first byte belongs to the request. */
export const HTTP = 0x47; // G

export const REQUEST = Buffer.from("GET /1k HTTP/1.1\r\nhost: bench\r\nuser-agent: load\r\n\r\n");
export const BODY_BYTES = 1_024;
export const RESPONSE = Buffer.concat([
  Buffer.from(
    `HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: ${BODY_BYTES}\r\n\r\n`,
  ),
  Buffer.alloc(BODY_BYTES, "x"),
]);

/** One read or write of bulk traffic: what common bulk programs use. */
export const CHUNK_BYTES = 128 * 1024;

/** The last line on a client's standard output. Rates are left to the reader; times in microseconds. */
export interface LoadResult {
  readonly seconds: number;
  readonly operations: number;
  readonly failures: number;
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
}

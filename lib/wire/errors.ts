// How this room fails: a bad header block is thrown, since its connection cannot go on. Everything else a
// peer may get wrong (frames, settings, DNS messages, CONNECT metadata) is a returned value.

/**
 * - `TRUNCATED`: the block ends inside a field
 * - `INTEGER`: more than four continuation octets (RFC 7541 §5.1 asks for a limit)
 * - `INDEX`: index 0, or one beyond both tables
 * - `HUFFMAN`: EOS inside the string, padding of 8 bits or more, or padding that is not all ones
 * - `TABLE_SIZE`: size update out of place, above our setting, or missing after we lowered it
 * - `LIST_TOO_LARGE`: the decoded list passes the caller's limit; the rest of the block was not read
 * - `OUT_OF_SPACE`: the caller's output buffer is too small; nothing was written, no state changed
 */
export type HpackErrorCode =
  | "TRUNCATED"
  | "INTEGER"
  | "INDEX"
  | "HUFFMAN"
  | "TABLE_SIZE"
  | "LIST_TOO_LARGE"
  | "OUT_OF_SPACE";

/** After any code but `OUT_OF_SPACE` the two tables differ, so the whole connection has to end (RFC 7541 §2.3.2). */
export class HpackError extends Error {
  override readonly name = "HpackError";
  readonly code: HpackErrorCode;

  constructor(code: HpackErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}

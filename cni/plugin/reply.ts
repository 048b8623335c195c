// Reads one HTTP/1.1 response (RFC 9112 §6.3) from the bytes of a closed connection. Written here
// because loading node:http costs 7 ms of every pod start, a third of the plugin's whole run.

export interface HttpReply {
  readonly status: number;
  readonly body: string;
  /** Names in lower case; of several lines of one name the last. */
  readonly headers: ReadonlyMap<string, string>;
}

/**
 * The response in `bytes`, or `null` while it is incomplete.
 * @param isEnd  the peer has closed: a body without length ends here
 * @throws {Error} for what is not an HTTP/1 response
 */
export function parseReply(bytes: Buffer, isEnd: boolean): HttpReply | null {
  const end = bytes.indexOf("\r\n\r\n");
  if (end < 0) {
    if (isEnd) throw new Error("the reply ends within its header");
    return null;
  }
  const [first = "", ...fields] = bytes.toString("latin1", 0, end).split("\r\n");
  const status = /^HTTP\/1\.[01] ([1-5]\d\d)(?: |$)/.exec(first)?.[1];
  if (status === undefined) throw new Error("the reply is not HTTP/1");
  // an interim response (RFC 9110 §15.2) is followed by the real one
  if (status.startsWith("1")) return parseReply(bytes.subarray(end + 4), isEnd);
  const headers = headersOf(fields);
  const body = bodyOf(headers, bytes.subarray(end + 4), isEnd);
  return body === null ? null : { status: Number(status), body: body.toString(), headers };
}

function bodyOf(header: ReadonlyMap<string, string>, rest: Buffer, isEnd: boolean): Buffer | null {
  if (header.get("transfer-encoding")?.toLowerCase() === "chunked") {
    const body = unchunk(rest);
    if (body === null && isEnd) throw new Error("the reply ends within a chunk");
    return body;
  }
  const length = header.get("content-length");
  if (length === undefined) return isEnd ? rest : null;
  if (!/^\d{1,9}$/.test(length)) throw new Error("the reply has no readable length");
  if (rest.length >= Number(length)) return rest.subarray(0, Number(length));
  if (isEnd) throw new Error("the reply is cut short");
  return null;
}

function headersOf(fields: readonly string[]): ReadonlyMap<string, string> {
  return new Map(
    fields.map((field) => {
      const colon = field.indexOf(":");
      return [field.slice(0, colon).toLowerCase(), field.slice(colon + 1).trim()];
    }),
  );
}

/** Joins chunks (RFC 9112 §7.1); `null` while the last one is missing. */
function unchunk(bytes: Buffer): Buffer | null {
  const parts: Buffer[] = [];
  for (let at = 0; ; ) {
    const end = bytes.indexOf("\r\n", at);
    if (end < 0) return null;
    const size = /^([0-9a-fA-F]{1,7})(?:;|$)/.exec(bytes.toString("latin1", at, end))?.[1];
    if (size === undefined) throw new Error("the reply has an unreadable chunk size");
    const length = Number.parseInt(size, 16);
    if (length === 0) return Buffer.concat(parts);
    if (bytes.length < end + 2 + length + 2) return null;
    parts.push(bytes.subarray(end + 2, end + 2 + length));
    at = end + 2 + length + 2;
  }
}

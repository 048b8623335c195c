// Lines out of a byte stream, with a bound on the length of one.
import { CliError } from "../errors.ts";

/** An event is about 1 KB. */
const MAX_LINE_CHARS = 1_000_000;

export async function* splitLines(chunks: AsyncIterable<Uint8Array>): AsyncIterable<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of chunks) {
    rest += decoder.decode(chunk, { stream: true });
    const lines = rest.split("\n");
    rest = lines.pop() ?? "";
    if (rest.length > MAX_LINE_CHARS)
      throw new CliError("FAILED", `A line of the stream is longer than ${MAX_LINE_CHARS}`);
    for (const line of lines) if (line.trim() !== "") yield line;
  }
  rest += decoder.decode();
  if (rest.trim() !== "") yield rest;
}

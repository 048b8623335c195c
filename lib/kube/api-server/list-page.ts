// Cuts a list as the API server sends it into its items while it arrives, so that a page of hundreds of
// objects never stands in memory whole: half of what a list cost was the garbage of its pages.
import { KubeError } from "../errors.ts";
import { isJsonObject, type JsonObject } from "../json.ts";

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPEN_BRACE = 0x7b;
const CLOSE_BRACE = 0x7d;
const OPEN_BRACKET = 0x5b;
const CLOSE_BRACKET = 0x5d;
/** 1 for the bytes that change anything, within strings and outside: the rest is skipped. */
const IN_STRING = marks(QUOTE, BACKSLASH);
const IN_PLAIN = marks(QUOTE, OPEN_BRACE, CLOSE_BRACE, OPEN_BRACKET, CLOSE_BRACKET);
/** Depth within the only list at the top: `{"metadata":{…},"items":[` here `]}`. */
const IN_ITEMS = 2;
/** Larger than any object etcd stores, with room for how it is written out. */
const MAX_ITEM_BYTES = 16 * 1024 * 1024;
const MAX_FRAME_BYTES = 1024 * 1024;

/** Fed with bytes; knows strings and nesting, leaves everything else to `JSON.parse`. */
export class ListPage {
  #depth = 0;
  #isInString = false;
  #isEscaped = false;
  /** Within the list of items, of which the frame keeps only the brackets. */
  #isInItems = false;
  /** Pieces of what is around the items, and of the item that has no end yet. */
  #frame: Buffer[] = [];
  #frameBytes = 0;
  #item: Buffer[] = [];
  #itemBytes = 0;

  /** The items that `chunk` completes. Hot path: runs per byte. @throws {KubeError} `UNAVAILABLE` */
  push(chunk: Buffer): string[] {
    const items: string[] = [];
    let depth = this.#depth;
    let isInString = this.#isInString;
    let isEscaped = this.#isEscaped;
    let isInItems = this.#isInItems;
    /** Where what belongs together begins: an item, or a part of the frame. */
    let from = 0;
    const { length } = chunk;
    for (let at = 0; at < length; at++) {
      if (isInString) {
        if (isEscaped) {
          isEscaped = false;
          continue;
        }
        while (at < length && IN_STRING[chunk[at] ?? 0] === 0) at++;
        if (at === length) break;
        if (chunk[at] === BACKSLASH) isEscaped = true;
        else isInString = false;
        continue;
      }
      while (at < length && IN_PLAIN[chunk[at] ?? 0] === 0) at++;
      if (at === length) break;
      const byte = chunk[at];
      if (byte === QUOTE) isInString = true;
      else if (byte === OPEN_BRACE || byte === OPEN_BRACKET) {
        if (isInItems && depth === IN_ITEMS) from = at;
        depth++;
        if (depth === IN_ITEMS && byte === OPEN_BRACKET) {
          isInItems = true;
          this.#keepFrame(chunk.subarray(from, at + 1));
        }
      } else {
        depth--;
        if (isInItems && depth === IN_ITEMS) items.push(this.#finishItem(chunk, from, at + 1));
        else if (isInItems && depth < IN_ITEMS) {
          isInItems = false;
          from = at;
        }
      }
    }
    if (!isInItems) this.#keepFrame(chunk.subarray(from));
    else if (depth > IN_ITEMS) this.#keepItem(chunk.subarray(from));
    this.#depth = depth;
    this.#isInString = isInString;
    this.#isEscaped = isEscaped;
    this.#isInItems = isInItems;
    return items;
  }

  /** What was around the items: `metadata` and the like. @throws {KubeError} `UNAVAILABLE` when it is no list */
  finish(): JsonObject {
    let frame: unknown;
    try {
      frame = JSON.parse(Buffer.concat(this.#frame).toString("utf8"));
    } catch (cause) {
      throw new KubeError("UNAVAILABLE", "The list broke off or is no JSON", { cause });
    }
    if (!isJsonObject(frame)) throw new KubeError("UNAVAILABLE", "The list is no object");
    return frame;
  }

  #keepFrame(piece: Buffer): void {
    this.#frameBytes += piece.length;
    if (this.#frameBytes > MAX_FRAME_BYTES)
      throw new KubeError("UNAVAILABLE", `The list has no items in ${MAX_FRAME_BYTES} bytes`);
    this.#frame.push(piece);
  }

  #keepItem(piece: Buffer): void {
    this.#itemBytes += piece.length;
    if (this.#itemBytes > MAX_ITEM_BYTES)
      throw new KubeError("UNAVAILABLE", `The list has an item of over ${MAX_ITEM_BYTES} bytes`);
    this.#item.push(piece);
  }

  #finishItem(chunk: Buffer, from: number, to: number): string {
    if (this.#itemBytes === 0) return chunk.toString("utf8", from, to);
    const whole = Buffer.concat([...this.#item, chunk.subarray(from, to)]);
    this.#item = [];
    this.#itemBytes = 0;
    return whole.toString("utf8");
  }
}

function marks(...bytes: readonly number[]): Uint8Array {
  const table = new Uint8Array(256);
  for (const byte of bytes) table[byte] = 1;
  return table;
}

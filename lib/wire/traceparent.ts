// W3C trace context, version 00: one fresh trace per application connection, for log correlation only.

/** Uniform in [0, 2^32). Need not be unpredictable: the ids are no secrets. */
export type RandomUint32 = () => number;

const HEX = Buffer.from("0123456789abcdef", "latin1");
/** The text under construction: only the two ids change. Used within one call. */
const text = Buffer.from(`00-${"0".repeat(32)}-${"0".repeat(16)}-00`, "latin1");

/**
 * `00-<trace id>-<parent id>-00`: fresh ids, flags 00 (not sampled). Hot path: runs per connection.
 * An all-zero id would be invalid, so the last bit of each is set.
 */
export function newTraceparent(random: RandomUint32): string {
  writeHex(3, random());
  writeHex(11, random());
  writeHex(19, random());
  writeHex(27, random() | 1);
  writeHex(36, random());
  writeHex(44, random() | 1);
  return text.toString("latin1");
}

/** Whether a peer's trace context can be passed on as it is. */
export function isTraceparent(value: string): boolean {
  return /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/.test(value);
}

/**
 * A small fast generator (sfc32) for ids and tests; not for secrets.
 * @param seed four 32-bit numbers, from a real random source in production
 */
export function seededRandom(seed: readonly [number, number, number, number]): RandomUint32 {
  let [a, b, c, d] = seed;
  const next = (): number => {
    const sum = (a + b + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + sum;
    return sum >>> 0;
  };
  for (let i = 0; i < 16; i++) next(); // mixes a poor seed
  return next;
}

function writeHex(at: number, word: number): void {
  for (let i = 7; i >= 0; i--, word >>>= 4) text[at + i] = HEX[word & 15]!;
}

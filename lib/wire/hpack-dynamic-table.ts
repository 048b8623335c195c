// The dynamic table of RFC 7541 §2.3.2 and §4: a ring of name/value pairs, newest first, bounded in octets.

/** RFC 7541 §4.1: what an entry costs beyond its two strings. */
export const ENTRY_OVERHEAD = 32;
const INITIAL_SLOTS = 8;

/** Used by both ends; a few slots at first, since most tunnels carry five headers or fewer. */
export class DynamicTable {
  #names: string[] = Array.from<string>({ length: INITIAL_SLOTS }).fill("");
  #values: string[] = Array.from<string>({ length: INITIAL_SLOTS }).fill("");
  #mask = INITIAL_SLOTS - 1;
  /** Slot of the newest entry. */
  #head = 0;
  #count = 0;
  #bytes = 0;
  #maxBytes: number;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get count(): number {
    return this.#count;
  }

  /** Octets in use, counted as RFC 7541 §4.1 does. Never above `maxBytes`. */
  get bytes(): number {
    return this.#bytes;
  }

  get maxBytes(): number {
    return this.#maxBytes;
  }

  /** @param age 0 for the newest entry; the caller has checked `age < count` */
  nameAt(age: number): string {
    return this.#names[(this.#head - age) & this.#mask]!;
  }

  /** @param age 0 for the newest entry; the caller has checked `age < count` */
  valueAt(age: number): string {
    return this.#values[(this.#head - age) & this.#mask]!;
  }

  /** Evicts the oldest entries until the new one fits; an entry larger than the table only empties it (§4.4). */
  add(name: string, value: string): void {
    const cost = name.length + value.length + ENTRY_OVERHEAD;
    this.#evictTo(this.#maxBytes - cost);
    if (cost > this.#maxBytes) return;
    if (this.#count > this.#mask) this.#grow();
    this.#head = (this.#head + 1) & this.#mask;
    this.#names[this.#head] = name;
    this.#values[this.#head] = value;
    this.#count++;
    this.#bytes += cost;
  }

  /** RFC 7541 §4.3. */
  resize(maxBytes: number): void {
    this.#maxBytes = maxBytes;
    this.#evictTo(maxBytes);
  }

  #evictTo(bytes: number): void {
    while (this.#count > 0 && this.#bytes > bytes) {
      const slot = (this.#head - --this.#count) & this.#mask;
      this.#bytes -= this.#names[slot]!.length + this.#values[slot]!.length + ENTRY_OVERHEAD;
      this.#names[slot] = "";
      this.#values[slot] = "";
    }
  }

  #grow(): void {
    const slots = (this.#mask + 1) * 2;
    const names = Array.from<string>({ length: slots }).fill("");
    const values = Array.from<string>({ length: slots }).fill("");
    for (let age = 0; age < this.#count; age++) {
      names[this.#count - 1 - age] = this.nameAt(age);
      values[this.#count - 1 - age] = this.valueAt(age);
    }
    this.#names = names;
    this.#values = values;
    this.#mask = slots - 1;
    this.#head = this.#count - 1;
  }
}

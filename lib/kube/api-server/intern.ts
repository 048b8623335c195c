// One copy of texts and small objects that thousands of objects hold alike: namespaces, nodes, the
// labels of a ReplicaSet's Pods. Bounded: what was not met again for a while is forgotten here and
// lives on where it is used.
import { dropNulls, type Json } from "../json.ts";

/** Longer ones are rarely alike. */
const MAX_TEXT_LENGTH = 128;
const MAX_OBJECT_LENGTH = 512;

/** Two generations of at most `max` entries: a hit moves to the young one, the old one is dropped whole. */
class Generations<V> {
  readonly #max: number;
  #young = new Map<string, V>();
  #old = new Map<string, V>();

  constructor(max: number) {
    this.#max = max;
  }

  get(key: string): V | undefined {
    const found = this.#young.get(key);
    if (found !== undefined) return found;
    const older = this.#old.get(key);
    if (older !== undefined) this.set(key, older);
    return older;
  }

  set(key: string, value: V): void {
    if (this.#young.size >= this.#max) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(key, value);
  }
}

const texts = new Generations<string>(8_192);
const objects = new Generations<Json>(2_048);

export function internText(value: string): string {
  if (value.length > MAX_TEXT_LENGTH) return value;
  const known = texts.get(value);
  if (known !== undefined) return known;
  texts.set(value, value);
  return value;
}

/** @returns a value equal to `value`, frozen as it belongs to many, without `null` members */
export function shareObject(value: Json): Json {
  if (typeof value !== "object" || value === null) return value;
  const key = JSON.stringify(value);
  if (key.length > MAX_OBJECT_LENGTH) return value;
  const known = objects.get(key);
  if (known !== undefined) return known;
  dropNulls(value);
  Object.freeze(value);
  objects.set(key, value);
  return value;
}

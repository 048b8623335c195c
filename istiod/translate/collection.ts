// Incremental tables. A `Source` is filled from outside; a `Derived` is a pure function of other
// tables, remembers for each of its inputs what the function read, and recomputes an input only when
// something it read has changed. Tables are refreshed in the order they were made, once per round.
import { isDeepStrictEqual } from "node:util";

export interface Change<T> {
  readonly key: string;
  /** `undefined`: was not there. */
  readonly before: T | undefined;
  /** `undefined`: is gone. */
  readonly after: T | undefined;
}

export type Equals<T> = (a: T, b: T) => boolean;

/** A keyed table with indexes and the changes of the current round. */
export class Collection<T> {
  readonly name: string;
  protected readonly entries = new Map<string, T>();
  readonly #indexes: Index<T>[] = [];
  readonly #changes = new Map<string, Change<T>>();
  readonly #equals: Equals<T>;

  constructor(name: string, equals: Equals<T> = isDeepStrictEqual) {
    this.name = name;
    this.#equals = equals;
  }

  get size(): number {
    return this.entries.size;
  }

  get(key: string): T | undefined {
    return this.entries.get(key);
  }

  /** In no meaningful order. */
  values(): Iterable<T> {
    return this.entries.values();
  }

  keys(): Iterable<string> {
    return this.entries.keys();
  }

  /** What differs from the end of the last round. */
  changes(): Iterable<Change<T>> {
    return this.#changes.values();
  }

  get hasChanges(): boolean {
    return this.#changes.size > 0;
  }

  /** Ends the round. */
  settle(): void {
    this.#changes.clear();
  }

  /** A lookup by something of the value; make it before the table has entries. */
  index(keysOf: (value: T) => readonly string[]): Index<T> {
    const index = new Index(this, keysOf);
    this.#indexes.push(index);
    return index;
  }

  /** `undefined` removes. An equal value is no change. */
  protected put(key: string, value: T | undefined): void {
    const old = this.entries.get(key);
    if (old === undefined && value === undefined) return;
    if (old !== undefined && value !== undefined && this.#equals(old, value)) return;
    if (value === undefined) this.entries.delete(key);
    else this.entries.set(key, value);
    for (const index of this.#indexes) index.move(key, old, value);
    const first = this.#changes.get(key);
    const before = first === undefined ? old : first.before;
    if (before === undefined && value === undefined) this.#changes.delete(key);
    else this.#changes.set(key, { key, before, after: value });
  }
}

/** Filled from outside. */
export class Source<T> extends Collection<T> {
  set(key: string, value: T): void {
    this.put(key, value);
  }

  delete(key: string): void {
    this.put(key, undefined);
  }
}

/** Values of a table by an attribute. Iteration order has no meaning: sort where order shows. */
export class Index<T> {
  readonly collection: Collection<T>;
  readonly keysOf: (value: T) => readonly string[];
  readonly #buckets = new Map<string, Map<string, T>>();

  constructor(collection: Collection<T>, keysOf: (value: T) => readonly string[]) {
    this.collection = collection;
    this.keysOf = keysOf;
  }

  lookup(key: string): Iterable<T> {
    return this.#buckets.get(key)?.values() ?? [];
  }

  keysAt(key: string): Iterable<string> {
    return this.#buckets.get(key)?.keys() ?? [];
  }

  has(key: string): boolean {
    return this.#buckets.has(key);
  }

  move(key: string, before: T | undefined, after: T | undefined): void {
    if (before !== undefined) {
      for (const at of this.keysOf(before)) {
        const bucket = this.#buckets.get(at);
        bucket?.delete(key);
        if (bucket?.size === 0) this.#buckets.delete(at);
      }
    }
    if (after !== undefined) {
      for (const at of this.keysOf(after)) {
        const bucket = this.#buckets.get(at);
        if (bucket === undefined) this.#buckets.set(at, new Map([[key, after]]));
        else bucket.set(key, after);
      }
    }
  }
}

/** How a transform reads other tables: every read is remembered as a dependency of its input. */
export interface Reads {
  key<T>(table: Collection<T>, key: string): T | undefined;
  /** `filter` narrows the dependency too: changes of values it refuses, before and after, are ignored. */
  index<T>(index: Index<T>, key: string, filter?: (value: T) => boolean): T[];
}

/** Where the inputs of a derived table come from: each entry of a table, or each group of an index. */
export type Inputs<I> = Collection<I> | Index<I>;

export interface Fault {
  readonly table: string;
  /** Key of the input. */
  readonly input: string;
  readonly error: unknown;
}

type Filter = (value: unknown) => boolean;
interface IndexReads {
  readonly index: Index<unknown>;
  /** Index key → input key → filters (`null`: all). */
  readonly readers: Map<string, Map<string, Filter[] | null>>;
}

export class Derived<I, O> extends Collection<O> {
  readonly #inputs: Inputs<I>;
  readonly #transform: (key: string, reads: Reads) => Iterable<readonly [string, O]>;
  readonly #outputs = new Map<string, readonly string[]>();
  readonly #keyReads = new Map<Collection<unknown>, Map<string, Set<string>>>();
  readonly #indexReads = new Map<Index<unknown>, IndexReads>();
  /** Input key → undo of what it registered. */
  readonly #reads = new Map<
    string,
    { readonly from: Map<string, unknown>; readonly at: string }[]
  >();

  #faults: Fault[] = [];

  private constructor(
    name: string,
    inputs: Inputs<I>,
    transform: (key: string, reads: Reads) => Iterable<readonly [string, O]>,
    equals?: Equals<O>,
  ) {
    super(name, equals);
    this.#inputs = inputs;
    this.#transform = transform;
  }

  /** Zero or more outputs per entry of `table`. Output keys of different inputs never meet. */
  static each<I, O>(
    name: string,
    table: Collection<I>,
    transform: (value: I, reads: Reads, key: string) => Iterable<readonly [string, O]>,
    equals?: Equals<O>,
  ): Derived<I, O> {
    return new Derived(
      name,
      table,
      (key, reads) => {
        const value = table.get(key);
        return value === undefined ? [] : transform(value, reads, key);
      },
      equals,
    );
  }

  /** Zero or more outputs per group of `index`. */
  static groups<I, O>(
    name: string,
    index: Index<I>,
    transform: (key: string, members: readonly I[], reads: Reads) => Iterable<readonly [string, O]>,
    equals?: Equals<O>,
  ): Derived<I, O> {
    return new Derived(
      name,
      index,
      (key, reads) => (index.has(key) ? transform(key, [...index.lookup(key)], reads) : []),
      equals,
    );
  }

  /** Inputs whose transform threw since the last call. A defect, but one object's, not the mesh's. */
  takeFaults(): readonly Fault[] {
    const faults = this.#faults;
    if (faults.length > 0) this.#faults = [];
    return faults;
  }

  /** Brings this table up to date with the round's changes of the tables before it. */
  refresh(): void {
    const dirty = new Set<string>();
    this.#markInputs(dirty);
    this.#markReaders(dirty);
    for (const key of dirty) this.#recompute(key);
  }

  #markInputs(dirty: Set<string>): void {
    if (this.#inputs instanceof Collection) {
      for (const { key } of this.#inputs.changes()) dirty.add(key);
      return;
    }
    for (const change of this.#inputs.collection.changes())
      for (const key of touched(this.#inputs, change)) dirty.add(key);
  }

  #markReaders(dirty: Set<string>): void {
    for (const [table, readers] of this.#keyReads)
      if (table.hasChanges)
        for (const { key } of table.changes())
          for (const reader of readers.get(key) ?? []) dirty.add(reader);
    for (const { index, readers } of this.#indexReads.values()) {
      if (!index.collection.hasChanges) continue;
      for (const change of index.collection.changes())
        for (const at of touched(index, change))
          for (const [reader, filters] of readers.get(at) ?? [])
            if (filters === null || filters.some((accepts) => concerns(accepts, change)))
              dirty.add(reader);
    }
  }

  #recompute(input: string): void {
    for (const { from, at } of this.#reads.get(input) ?? []) forget(from, at, input);
    this.#reads.delete(input);
    const fresh = new Map<string, O>();
    try {
      for (const [key, value] of this.#transform(input, this.#readsOf(input)))
        if (!fresh.has(key)) fresh.set(key, value); // the first of equal names counts
    } catch (error) {
      this.#faults.push({ table: this.name, input, error });
      return; // what this input gave before stays; all others go on
    }
    for (const key of this.#outputs.get(input) ?? []) if (!fresh.has(key)) this.put(key, undefined);
    for (const [key, value] of fresh) this.put(key, value);
    if (fresh.size === 0) this.#outputs.delete(input);
    else this.#outputs.set(input, [...fresh.keys()]);
  }

  #readsOf(input: string): Reads {
    const undo: { from: Map<string, unknown>; at: string }[] = [];
    const remember = (from: Map<string, unknown>, at: string): void => {
      if (undo.length === 0) this.#reads.set(input, undo);
      undo.push({ from, at });
    };
    return {
      key: (table, key) => {
        const readers = at(this.#keyReads, table as Collection<unknown>, () => new Map());
        at(readers, key, () => new Set<string>()).add(input);
        remember(readers, key);
        return table.get(key);
      },
      index: (index, key, filter) => {
        const reads = at(this.#indexReads, index as unknown as Index<unknown>, () => ({
          index: index as unknown as Index<unknown>,
          readers: new Map(),
        }));
        const readers = at(reads.readers, key, () => new Map<string, Filter[] | null>());
        if (filter === undefined) readers.set(input, null);
        else {
          const filters = readers.get(input);
          if (filters === undefined) readers.set(input, [filter as Filter]);
          else filters?.push(filter as Filter);
        }
        remember(reads.readers, key);
        const values = [...index.lookup(key)];
        return filter === undefined ? values : values.filter(filter);
      },
    };
  }
}

/** Several tables as one; their keys never meet. */
export class Union<T> extends Collection<T> {
  readonly #parts: readonly Collection<T>[];

  constructor(name: string, parts: readonly Collection<T>[]) {
    super(name, Object.is);
    this.#parts = parts;
  }

  refresh(): void {
    for (const part of this.#parts)
      for (const { key, after } of part.changes()) this.put(key, after);
  }
}

function touched<T>(index: Index<T>, change: Change<T>): Set<string> {
  const keys = new Set<string>(change.before === undefined ? [] : index.keysOf(change.before));
  if (change.after !== undefined) for (const key of index.keysOf(change.after)) keys.add(key);
  return keys;
}

function concerns(accepts: Filter, { before, after }: Change<unknown>): boolean {
  return (before !== undefined && accepts(before)) || (after !== undefined && accepts(after));
}

function forget(from: Map<string, unknown>, at: string, input: string): void {
  const readers = from.get(at) as Set<string> | Map<string, unknown> | undefined;
  readers?.delete(input);
  if (readers?.size === 0) from.delete(at);
}

function at<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  const found = map.get(key);
  if (found !== undefined) return found;
  const made = make();
  map.set(key, made);
  return made;
}

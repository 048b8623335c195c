// Reading JSON from outside field by field: wrong kinds are errors that name the path, absent is a default.
import { CliError } from "../errors.ts";

export type JsonObject = Readonly<Record<string, unknown>>;

/** A position in a document: the value and how to name it in an error. */
export class Json {
  readonly value: unknown;
  readonly path: string;

  constructor(value: unknown, path: string) {
    this.value = value;
    this.path = path;
  }

  object(): JsonObject {
    const v = this.value;
    if (typeof v !== "object" || v === null || Array.isArray(v)) throw this.#wrong("an object");
    return v as JsonObject;
  }

  at(key: string): Json {
    return new Json(this.object()[key], `${this.path}.${key}`);
  }

  get isAbsent(): boolean {
    return this.value === undefined || this.value === null;
  }

  text(fallback = ""): string {
    if (this.isAbsent) return fallback;
    if (typeof this.value !== "string") throw this.#wrong("text");
    return this.value;
  }

  number(fallback = 0): number {
    if (this.isAbsent) return fallback;
    if (typeof this.value !== "number") throw this.#wrong("a number");
    return this.value;
  }

  boolean(fallback = false): boolean {
    if (this.isAbsent) return fallback;
    if (typeof this.value !== "boolean") throw this.#wrong("true or false");
    return this.value;
  }

  /** Elements of an array; absent is none. */
  list(): Json[] {
    if (this.isAbsent) return [];
    if (!Array.isArray(this.value)) throw this.#wrong("a list");
    return this.value.map((v: unknown, i) => new Json(v, `${this.path}[${i}]`));
  }

  texts(): string[] {
    return this.list().map((item) => item.text());
  }

  /** Entries of an object; absent is none. */
  entries(): [string, Json][] {
    if (this.isAbsent) return [];
    return Object.entries(this.object()).map(([k, v]) => [k, new Json(v, `${this.path}.${k}`)]);
  }

  /** A list, or the values of an object: older ztunnels dumped maps. */
  values(): Json[] {
    return Array.isArray(this.value) || this.isAbsent
      ? this.list()
      : this.entries().map(([, v]) => v);
  }

  #wrong(expected: string): CliError {
    const got = this.value === undefined ? "nothing" : JSON.stringify(this.value).slice(0, 40);
    return new CliError("BAD_INPUT", `${this.path}: expected ${expected}, got ${got}`);
  }
}

/** @param where names the text in errors, e.g. a file name. @throws {CliError} BAD_INPUT */
export function parseJson(text: string, where: string): Json {
  try {
    return new Json(JSON.parse(text), where);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new CliError("BAD_INPUT", `${where} is no JSON: ${reason}`, [], error);
  }
}

// A fast reader for the YAML that manifests are nearly always written in: block mappings and
// sequences of plain and quoted scalars. It never guesses: for anything else it answers `null` and
// the caller takes the full parser, so both always agree (plain-yaml.test.ts compares them).
import type { Json } from "./json.ts";

const PLAIN_KEY = /([A-Za-z_][A-Za-z0-9_./-]*|0|[1-9][0-9]{0,9}):(?: +|$)/y;
const QUOTED_KEY = /(?:'([^'\\]*)'|"([^"\\]*)"):(?: +|$)/y;
const SINGLE_QUOTED = /^'(?:[^']|'')*'$/;
const DOUBLE_QUOTED = /^"(?:[^"\\\t]|\\["\\/bfnrt])*"$/;
const INTEGER = /^(?:0|-?[1-9][0-9]{0,14})$/;
/** Everything YAML's core schema may read as a number. */
const NUMBER_LIKE =
  /^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|0o[0-7]+|0x[0-9a-fA-F]+|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$/;
const RESERVED_KEY = /^(?:null|true|false|__proto__)$/i;
/** Characters YAML refuses, or treats as more than themselves. */
// oxlint-disable-next-line no-control-regex -- finding them is the point
const CONTROL = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u2029\ufeff]/;
const MAX_DEPTH = 64;

interface Line {
  readonly indent: number;
  readonly text: string;
}

class NotPlain extends Error {}

/** @returns the value of every document (empty ones left out), or `null` when `text` needs the full parser */
export function parsePlainYaml(text: string): Json[] | null {
  if (CONTROL.test(text)) return null;
  try {
    const documents: Json[] = [];
    for (const lines of splitDocuments(text))
      if (lines.length > 0) documents.push(new Reader(lines).document());
    return documents;
  } catch (error) {
    if (error instanceof NotPlain) return null;
    throw error;
  }
}

function* splitDocuments(text: string): Generator<Line[]> {
  let lines: Line[] = [];
  for (const raw of text.split("\n")) {
    const trimmed = raw.trim();
    if (trimmed === "" || trimmed.startsWith("#")) continue;
    if (raw.startsWith("---")) {
      if (raw.trimEnd() !== "---") throw new NotPlain();
      yield lines;
      lines = [];
      continue;
    }
    if (raw.startsWith("...") || raw.startsWith("%")) throw new NotPlain();
    lines.push({ indent: raw.length - raw.trimStart().length, text: trimmed });
  }
  yield lines;
}

class Reader {
  readonly #lines: Line[];
  #at = 0;
  #depth = 0;

  constructor(lines: Line[]) {
    this.#lines = lines;
  }

  document(): Json {
    const value = this.#block(this.#lines[0]?.indent ?? 0);
    if (this.#at !== this.#lines.length) throw new NotPlain();
    return value;
  }

  #block(indent: number): Json {
    if (++this.#depth > MAX_DEPTH) throw new NotPlain();
    const line = this.#lines[this.#at];
    if (line?.indent !== indent) throw new NotPlain();
    const value = isItem(line.text) ? this.#sequence(indent) : this.#mapping(indent);
    this.#depth--;
    return value;
  }

  #mapping(indent: number): Json {
    const map: Record<string, Json> = {};
    for (;;) {
      const line = this.#lines[this.#at];
      if (line === undefined || line.indent < indent) return map;
      if (line.indent > indent) throw new NotPlain();
      if (isItem(line.text)) return map; // a sequence's next item, or nonsense the caller refuses
      const key = keyOf(line.text);
      if (key === null || Object.hasOwn(map, key.name)) throw new NotPlain();
      this.#at++;
      const rest = line.text.slice(key.length);
      map[key.name] = rest === "" ? this.#nested(indent, true) : this.#scalar(rest, indent);
    }
  }

  #sequence(indent: number): Json {
    const list: Json[] = [];
    for (;;) {
      const line = this.#lines[this.#at];
      if (line === undefined || line.indent < indent) return list;
      if (line.indent > indent) throw new NotPlain();
      if (!isItem(line.text)) return list;
      const rest = line.text.slice(1).trimStart();
      if (rest === "") {
        this.#at++;
        list.push(this.#nested(indent, false));
      } else if (isItem(rest) || keyOf(rest) !== null) {
        const inner = indent + line.text.length - rest.length;
        this.#lines[this.#at] = { indent: inner, text: rest };
        list.push(this.#block(inner));
      } else {
        this.#at++;
        list.push(this.#scalar(rest, indent));
      }
    }
  }

  /** The value of a key or dash with nothing behind it. */
  #nested(indent: number, sameIndentSequence: boolean): Json {
    const next = this.#lines[this.#at];
    if (next === undefined) return null;
    if (next.indent > indent) return this.#block(next.indent);
    if (sameIndentSequence && next.indent === indent && isItem(next.text)) {
      return this.#block(indent);
    }
    return null;
  }

  #scalar(text: string, indent: number): Json {
    const next = this.#lines[this.#at];
    if (next !== undefined && next.indent > indent) throw new NotPlain(); // continues on the next line
    const first = text.charCodeAt(0);
    if (first === 0x27) {
      if (!SINGLE_QUOTED.test(text)) throw new NotPlain();
      return text.slice(1, -1).replaceAll("''", "'");
    }
    if (first === 0x22) {
      if (!DOUBLE_QUOTED.test(text)) throw new NotPlain();
      return JSON.parse(text) as string;
    }
    if (text === "{}") return {};
    if (text === "[]") return [];
    if ("{}[],&*!|>%@`?:#".includes(text.charAt(0))) throw new NotPlain();
    if (text.includes(": ") || text.includes(" #") || text.endsWith(":")) throw new NotPlain();
    return plain(text);
  }
}

function plain(text: string): Json {
  if (INTEGER.test(text)) return Number(text);
  if (NUMBER_LIKE.test(text)) throw new NotPlain();
  if (text.startsWith("-") && (text.length === 1 || text[1] === " ")) throw new NotPlain();
  switch (text) {
    case "null":
    case "Null":
    case "NULL":
    case "~":
      return null;
    case "true":
    case "True":
    case "TRUE":
      return true;
    case "false":
    case "False":
    case "FALSE":
      return false;
    default:
      return text;
  }
}

function isItem(text: string): boolean {
  return text.charCodeAt(0) === 0x2d && (text.length === 1 || text.charCodeAt(1) === 0x20);
}

function keyOf(text: string): { readonly name: string; readonly length: number } | null {
  PLAIN_KEY.lastIndex = 0;
  const plainKey = PLAIN_KEY.exec(text);
  if (plainKey !== null) {
    const name = plainKey[1] ?? "";
    if (RESERVED_KEY.test(name)) throw new NotPlain();
    return { name, length: plainKey[0].length };
  }
  QUOTED_KEY.lastIndex = 0;
  const quoted = QUOTED_KEY.exec(text);
  if (quoted === null) return null;
  const name = quoted[1] ?? quoted[2] ?? "";
  if (name === "__proto__") throw new NotPlain();
  return { name, length: quoted[0].length };
}

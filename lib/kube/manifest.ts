// One manifest file as text: which objects it defines, and the same text with one of them changed.
// YAML is handled document by document, so an edit leaves all other bytes of the file alone.
import { isMap, isSeq, LineCounter, parseDocument, stringify } from "yaml";
import type { KubeObject } from "./cluster.ts";
import { KubeError } from "./errors.ts";
import { isJsonObject, type Json, type JsonObject } from "./json.ts";
import { groupOf, kindKey } from "./objects.ts";
import { parseObject } from "./parse-object.ts";
import { parsePlainYaml } from "./plain-yaml.ts";
import { FieldError } from "./schema.ts";

export interface Manifest {
  readonly objects: readonly KubeObject[];
  /** One per document that cannot be used. */
  readonly errors: readonly KubeError[];
}

/** What makes two definitions the same object: `group/Kind|namespace|name`. */
export function identityKey(object: KubeObject): string {
  return keyFor(
    { group: groupOf(object.apiVersion), kind: object.kind },
    object.metadata.namespace ?? null,
    object.metadata.name,
  );
}

export function keyFor(
  of: { readonly group: string; readonly kind: string },
  namespace: string | null,
  name: string,
): string {
  return `${kindKey(of)}|${namespace ?? ""}|${name}`;
}

/** Never throws: what cannot be read is in `errors`, with file, line, field and cause. */
export function parseManifest(text: string, file: string): Manifest {
  const objects: KubeObject[] = [];
  const errors: KubeError[] = [];
  for (const part of split(text, file)) {
    try {
      const value = readPart(part, file);
      if (value === null) continue;
      const items = itemsOf(value);
      for (const [i, item] of (items ?? [value]).entries()) {
        try {
          objects.push(parseObject(item));
        } catch (error) {
          if (!(error instanceof FieldError)) throw error;
          errors.push(invalid(part, file, items === null ? [] : ["items", i], error));
        }
      }
    } catch (error) {
      if (!(error instanceof KubeError)) throw error;
      errors.push(error);
    }
  }
  return { objects, errors };
}

/**
 * Replaces (`value`), adds (when absent) or removes (`null`) the object that `key` names.
 * @returns the new text, or `null` when no object is left
 * @throws {KubeError} `MALFORMED` or `INVALID` when the text cannot be read, so that nothing is lost
 */
export function editManifest(
  text: string,
  file: string,
  key: string,
  value: JsonObject | null,
): string | null {
  let found = false;
  const kept: Part[] = [];
  for (const part of split(text, file)) {
    const edited = found ? part : editPart(part, file, key, value);
    if (edited !== part) found = true;
    if (edited !== null) kept.push(edited);
  }
  // A definition that no longer parses may be the one: adding beside it would make two.
  const [problem] = found ? [] : parseManifest(text, file).errors;
  if (problem !== undefined) throw problem;
  if (!found && value !== null) {
    if (file.endsWith(".json") && kept.some((p) => readPart(p, file) !== null)) {
      const all = kept.flatMap((p) => itemsOf(readPart(p, file)) ?? [readPart(p, file)]);
      return printJson({ apiVersion: "v1", kind: "List", items: [...all, value] });
    }
    kept.push({ text: printObject(value, file), line: 1, marker: "---" });
  }
  if (!kept.some((p) => p.text.trim() !== "" && readPart(p, file) !== null)) return null;
  return kept
    .map((p, i) => (i === 0 && p.marker === null ? p.text : `${p.marker ?? "---"}\n${p.text}`))
    .map((t) => (t === "" || t.endsWith("\n") ? t : `${t}\n`))
    .join("");
}

/** The whole text of a file that holds just this object. */
export function printObject(value: JsonObject, file: string): string {
  return file.endsWith(".json") ? printJson(value) : stringify(value, { lineWidth: 0 });
}

interface Part {
  readonly text: string;
  /** Line of the file on which `text` begins, 1-based. */
  readonly line: number;
  /** The `---` line before it, if any. */
  readonly marker: string | null;
}

/** A line that starts with `---` is a document marker wherever it stands (YAML 1.2, 9.1.2). */
function split(text: string, file: string): Part[] {
  if (file.endsWith(".json")) return [{ text, line: 1, marker: null }];
  if (!text.startsWith("---") && !text.includes("\n---")) return [{ text, line: 1, marker: null }];
  const parts: Part[] = [];
  const marker = /^---(?:[ \t].*)?$/gm;
  let start = 0;
  let line = 1;
  let mark: string | null = null;
  for (let m = marker.exec(text); m !== null; m = marker.exec(text)) {
    const body = text.slice(start, m.index);
    if (mark !== null || body !== "") parts.push({ text: body, line, marker: mark });
    line += count(body) + 1;
    start = Math.min(text.length, marker.lastIndex + 1);
    mark = m[0].trimEnd();
  }
  parts.push({ text: text.slice(start), line, marker: mark });
  return parts;
}

/** @returns `null` for an empty document. @throws {KubeError} `MALFORMED` */
function readPart(part: Part, file: string): Json {
  if (file.endsWith(".json") || part.text.trimStart().startsWith("{")) {
    if (part.text.trim() === "") return null;
    try {
      return JSON.parse(part.text) as Json;
    } catch (error) {
      if (file.endsWith(".json")) throw malformedJson(part, file, error);
    }
  }
  if (part.marker === null || part.marker === "---" || /^---\s*#/.test(part.marker)) {
    const plain = parsePlainYaml(part.text);
    if (plain !== null) return plain[0] ?? null;
  }
  const { document, counter } = fullYaml(part);
  const problem = document.errors[0];
  if (problem !== undefined) {
    const line = part.line - 1 + counter.linePos(problem.pos[0]).line;
    throw malformed(file, line, problem.message.split("\n", 1)[0] ?? "", problem);
  }
  try {
    return (document.toJS({ maxAliasCount: 100 }) ?? null) as Json;
  } catch (error) {
    throw malformed(file, part.line, error instanceof Error ? error.message : String(error), error);
  }
}

function editPart(part: Part, file: string, key: string, value: JsonObject | null): Part | null {
  const json = readPart(part, file);
  if (json === null) return part;
  const items = itemsOf(json);
  if (items === null) {
    if (keyOf(json) !== key) return part;
    return value === null ? null : { ...part, text: printObject(value, file) };
  }
  const index = items.findIndex((item) => keyOf(item) === key);
  if (index < 0) return part;
  const left = value === null ? items.toSpliced(index, 1) : items.with(index, value);
  if (left.length === 0) return null;
  const whole = { ...(json as JsonObject), items: left };
  return { ...part, text: printObject(whole, file) };
}

function keyOf(value: Json): string | null {
  try {
    return identityKey(parseObject(structuredClone(value)));
  } catch (error) {
    if (error instanceof FieldError) return null;
    throw error;
  }
}

/** The entries of a `kind: List`; `null` for a single object. */
function itemsOf(value: Json): Json[] | null {
  return isJsonObject(value) && value.kind === "List" && Array.isArray(value.items)
    ? value.items
    : null;
}

function fullYaml(part: Part): {
  document: ReturnType<typeof parseDocument>;
  counter: LineCounter;
} {
  const counter = new LineCounter();
  return {
    document: parseDocument(part.text, { lineCounter: counter, merge: true, stringKeys: true }),
    counter,
  };
}

function invalid(
  part: Part,
  file: string,
  prefix: readonly (string | number)[],
  error: FieldError,
): KubeError {
  const line = file.endsWith(".json") ? null : lineOf(part, [...prefix, ...segments(error.path)]);
  const at = line === null ? file : `${file}:${line}`;
  return new KubeError("INVALID", `${at}: ${error.message}`, {
    file,
    ...(line === null ? {} : { line }),
    field: error.path,
    cause: error,
  });
}

/** Where the field, or its nearest ancestor, stands. */
function lineOf(part: Part, path: readonly (string | number)[]): number {
  const { document, counter } = fullYaml(part);
  for (let depth = path.length; depth >= 0; depth--) {
    const node: unknown =
      depth === 0 ? document.contents : document.getIn(path.slice(0, depth), true);
    const range = (node as { range?: readonly number[] | null } | null | undefined)?.range;
    if (range?.[0] === undefined) continue;
    // A block begins on the line after its key; a flow collection on the same one.
    const block = depth < path.length && depth > 0 && (isMap(node) || isSeq(node)) && !node.flow;
    return part.line - 1 + counter.linePos(range[0]).line - (block ? 1 : 0);
  }
  return part.line;
}

/** `spec.ports[0].port` and `metadata.labels["a/b"]` as path segments. */
function segments(path: string): (string | number)[] {
  return [...path.matchAll(/\["((?:[^"\\]|\\.)*)"\]|\[(\d+)\]|([^.[\]]+)/g)].map((m) =>
    m[2] === undefined ? (m[1] === undefined ? (m[3] ?? "") : m[1]) : Number(m[2]),
  );
}

function malformedJson(part: Part, file: string, error: unknown): KubeError {
  const message = error instanceof Error ? error.message : String(error);
  const at = /\(line (\d+) column \d+\)/.exec(message);
  const position = /position (\d+)/.exec(message);
  const line =
    at === null
      ? position === null
        ? count(part.text) + 1
        : count(part.text.slice(0, Number(position[1]))) + 1
      : Number(at[1]);
  return malformed(file, line, message, error);
}

function malformed(file: string, line: number, reason: string, cause: unknown): KubeError {
  return new KubeError("MALFORMED", `${file}:${line}: ${reason}`, { file, line, cause });
}

function printJson(value: Json): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

function count(text: string): number {
  let lines = 0;
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) lines++;
  return lines;
}

// RFC 6902 JSON Patch: what kustomize's patches with a target may be.
import { isJsonObject, sameJson, type Json, type JsonObject } from "#lib/kube/json.ts";
import { CliError } from "../errors.ts";

interface Operation {
  readonly op: string;
  readonly path: string;
  readonly from?: string | undefined;
  readonly value?: Json | undefined;
}

/** @param where  names the patch in errors. @throws {CliError} BAD_INPUT */
export function jsonPatch(
  target: JsonObject,
  operations: readonly Json[],
  where: string,
): JsonObject {
  let document: Json = structuredClone(target);
  for (const [i, raw] of operations.entries()) {
    const at = `${where}[${i}]`;
    if (!isJsonObject(raw) || typeof raw["op"] !== "string" || typeof raw["path"] !== "string")
      throw new CliError("BAD_INPUT", `${at}: expected op and path`);
    document = applied(document, raw as unknown as Operation, at);
  }
  if (!isJsonObject(document)) throw new CliError("BAD_INPUT", `${where} leaves no object`);
  return document;
}

function applied(document: Json, o: Operation, at: string): Json {
  switch (o.op) {
    case "add":
    case "replace":
      return put(document, o.path, structuredClone(o.value ?? null), o.op === "add", at);
    case "remove":
      return removed(document, o.path, at);
    case "copy":
    case "move": {
      const value = get(document, o.from ?? "", at);
      const rest = o.op === "move" ? removed(document, o.from ?? "", at) : document;
      return put(rest, o.path, structuredClone(value), true, at);
    }
    case "test":
      if (sameJson(get(document, o.path, at), o.value)) return document;
      throw new CliError("BAD_INPUT", `${at}: ${o.path} is not as the test says`);
    default:
      throw new CliError("BAD_INPUT", `${at}: no such operation: ${JSON.stringify(o.op)}`);
  }
}

function tokens(pointer: string): string[] {
  return pointer
    .split("/")
    .slice(1)
    .map((t) => t.replaceAll("~1", "/").replaceAll("~0", "~"));
}

function get(document: Json, pointer: string, at: string): Json {
  return tokens(pointer).reduce((value: Json, token) => child(value, token, pointer, at), document);
}

function child(value: Json, token: string, pointer: string, at: string): Json {
  const next = Array.isArray(value)
    ? value[Number(token)]
    : isJsonObject(value)
      ? value[token]
      : undefined;
  if (next === undefined) throw new CliError("BAD_INPUT", `${at}: nothing at ${pointer}`);
  return next;
}

function parentOf(document: Json, pointer: string, at: string): readonly [Json, string] {
  const all = tokens(pointer);
  const last = all.pop() ?? "";
  return [all.reduce((value: Json, token) => child(value, token, pointer, at), document), last];
}

function put(document: Json, pointer: string, value: Json, inserts: boolean, at: string): Json {
  if (pointer === "") return value;
  const [parent, last] = parentOf(document, pointer, at);
  if (Array.isArray(parent)) {
    const index = last === "-" ? parent.length : Number(last);
    if (!Number.isInteger(index) || index < 0 || index > parent.length)
      throw new CliError("BAD_INPUT", `${at}: nothing at ${pointer}`);
    parent.splice(index, inserts ? 0 : 1, value);
  } else if (isJsonObject(parent)) {
    if (!inserts && parent[last] === undefined)
      throw new CliError("BAD_INPUT", `${at}: nothing at ${pointer}`);
    parent[last] = value;
  } else throw new CliError("BAD_INPUT", `${at}: nothing at ${pointer}`);
  return document;
}

function removed(document: Json, pointer: string, at: string): Json {
  const [parent, last] = parentOf(document, pointer, at);
  get(document, pointer, at);
  if (Array.isArray(parent)) parent.splice(Number(last), 1);
  else if (isJsonObject(parent)) delete parent[last];
  return document;
}

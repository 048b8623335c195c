// Checks of untrusted objects: small functions that either accept a value or name the field and the
// reason. Unknown fields pass, as an older reader must accept a newer writer.
import type { Json } from "./json.ts";
import { isJsonObject } from "./json.ts";

/** Throws `FieldError` when `value` (never undefined) is not what the field holds. */
export type Check = (value: Json, path: string) => void;

export class FieldError extends Error {
  override readonly name = "FieldError";
  readonly path: string;

  constructor(path: string, message: string) {
    super(`${path === "" ? "object" : path}: ${message}`);
    this.path = path;
  }
}

export const text: Check = (value, path) => {
  if (typeof value !== "string")
    throw new FieldError(path, `expected text, got ${show(value)}${hint(value)}`);
};

export const flag: Check = (value, path) => {
  if (typeof value !== "boolean")
    throw new FieldError(path, `expected true or false, got ${show(value)}`);
};

export function integer(min: number, max: number): Check {
  return (value, path) => {
    if (typeof value !== "number" || !Number.isInteger(value) || value < min || value > max)
      throw new FieldError(
        path,
        `expected a whole number from ${min} to ${max}, got ${show(value)}`,
      );
  };
}

export const port: Check = integer(1, 65_535);
export const count: Check = integer(0, 0xffff_ffff);

export function oneOf(...values: readonly string[]): Check {
  return (value, path) => {
    if (typeof value !== "string" || !values.includes(value))
      throw new FieldError(path, `expected one of ${values.join(", ")}, got ${show(value)}`);
  };
}

export function matching(pattern: RegExp, what: string): Check {
  return (value, path) => {
    text(value, path);
    if (!pattern.test(value as string))
      throw new FieldError(path, `expected ${what}, got ${show(value)}`);
  };
}

/** A whole number or a name, as `targetPort`. */
export const portOrName: Check = (value, path) => {
  if (typeof value === "number") port(value, path);
  else text(value, path);
};

export function list(entry: Check): Check {
  return (value, path) => {
    if (!Array.isArray(value)) throw new FieldError(path, `expected a list, got ${show(value)}`);
    for (let i = 0; i < value.length; i++) entry(value[i] ?? null, `${path}[${i}]`);
  };
}

export function map(entry: Check, key?: Check): Check {
  return (value, path) => {
    if (!isJsonObject(value)) throw new FieldError(path, `expected a mapping, got ${show(value)}`);
    for (const name in value) {
      key?.(name, `${path}[${JSON.stringify(name)}]`);
      entry(value[name] ?? null, `${path}[${JSON.stringify(name)}]`);
    }
  };
}

export function object(
  fields: Readonly<Record<string, Check>>,
  ...required: readonly string[]
): Check {
  const entries = Object.entries(fields);
  return (value, path) => {
    if (!isJsonObject(value)) throw new FieldError(path, `expected a mapping, got ${show(value)}`);
    for (const name of required)
      if (value[name] === undefined) throw new FieldError(join(path, name), "is required");
    for (const [name, check] of entries) {
      const field = value[name];
      if (field !== undefined) check(field, join(path, name));
    }
  };
}

function join(path: string, name: string): string {
  return path === "" ? name : `${path}.${name}`;
}

function show(value: Json): string {
  if (Array.isArray(value)) return "a list";
  if (isJsonObject(value)) return "a mapping";
  const shown = JSON.stringify(value);
  return shown.length > 80 ? `${shown.slice(0, 77)}…` : shown;
}

function hint(value: Json): string {
  return typeof value === "number" || typeof value === "boolean" ? " (put it in quotes)" : "";
}

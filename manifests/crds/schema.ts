// A small language for the schemas of custom resources: one function per shape, each a piece of OpenAPI v3 as the API
// server takes it (structural schemas, CEL rules).

/** Serialised as it is; key order is the order in the file. */
export interface Schema {
  readonly [key: string]: unknown;
}

/** A CEL rule. The message names the field and says what to do. */
export interface Rule {
  readonly rule: string;
  readonly message: string;
}

type Options = Readonly<Record<string, unknown>> & { readonly rules?: readonly Rule[] };
type Fields = Readonly<Record<string, Schema>>;

/** Text. `options`: maxLength, pattern, enum, anyOf and the like. */
export function text(description: string, options: Options = {}): Schema {
  return typed("string", description, options);
}

/** One of some words. */
export function word(description: string, ...values: readonly string[]): Schema {
  return text(description, { enum: values });
}

export function flag(description: string): Schema {
  return typed("boolean", description, {});
}

export function integer(description: string, options: Options = {}): Schema {
  return typed("integer", description, options);
}

export function list(description: string, items: Schema, options: Options = {}): Schema {
  return typed("array", description, { ...options, items });
}

/** Any keys, values of one shape. */
export function map(description: string, values: Schema, options: Options = {}): Schema {
  return typed("object", description, { ...options, additionalProperties: values });
}

/** @param options  `required`: names of fields; `rules` */
export function object(description: string, properties: Fields, options: Options = {}): Schema {
  return typed("object", description, { ...options, properties });
}

function typed(type: string, description: string, { rules, ...rest }: Options): Schema {
  return {
    type,
    description,
    ...rest,
    ...(rules === undefined ? {} : { "x-kubernetes-validations": rules }),
  };
}

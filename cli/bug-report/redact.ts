// Takes secrets out of what goes into a report. Secret objects are never read; this is about what stands elsewhere.
import { isJsonObject, type Json, type JsonObject } from "#lib/kube/json.ts";

export const REDACTED = "REDACTED";

const SECRET_NAME = /(token|passw|secret|credential|api[-_]?key|private[-_]?key|authorization)/i;
/** A signed token, a private key, a bearer header, and credentials in a URL, wherever they stand. */
const SECRET_TEXT: readonly (readonly [RegExp, string])[] = [
  [/\beyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*/g, REDACTED],
  [
    /-----BEGIN ([A-Z ]*)PRIVATE KEY-----[\s\S]*?(-----END [A-Z ]*PRIVATE KEY-----|$)/g,
    `-----${REDACTED} PRIVATE KEY-----`,
  ],
  [/\b([Bb]earer|[Bb]asic) [\w.~+/=-]{8,}/g, `$1 ${REDACTED}`],
  [/\b([a-z][a-z0-9+.-]*:\/\/)[^\s/@:]+:[^\s/@]+@/gi, `$1${REDACTED}@`],
];

/** For logs and pages. */
export function redactText(text: string): string {
  return SECRET_TEXT.reduce((t, [pattern, by]) => t.replace(pattern, by), text);
}

/** For objects: environment values, annotations that repeat the object, and every text as above. */
export function redactObject(value: JsonObject): JsonObject {
  return redacted(value, "") as JsonObject;
}

function redacted(value: Json, key: string): Json {
  if (typeof value === "string") return redactText(value);
  if (Array.isArray(value))
    return value.map((v) => (key === "env" && isJsonObject(v) ? variable(v) : redacted(v, key)));
  if (!isJsonObject(value)) return value;
  const result: JsonObject = {};
  for (const [name, inner] of Object.entries(value)) {
    if (name === "kubectl.kubernetes.io/last-applied-configuration") continue;
    const hides = typeof inner === "string" && SECRET_NAME.test(name) && HIDING_PARENTS.has(key);
    result[name] = hides ? REDACTED : redacted(inner, name);
  }
  return result;
}

/** Mappings of a user's own words, where a name tells what the value is. */
const HIDING_PARENTS = new Set(["annotations", "data", "stringData"]);

/** The mesh's own variables are settings; those of others are nobody's business. */
function variable(v: JsonObject): JsonObject {
  const name = typeof v["name"] === "string" ? v["name"] : "";
  if (typeof v["value"] !== "string") return v;
  return SECRET_NAME.test(name)
    ? { ...v, value: REDACTED }
    : { ...v, value: redactText(v["value"]) };
}

/** Pods outside the mesh's namespace keep no environment value at all. */
export function withoutEnvironment(value: Json): Json {
  if (Array.isArray(value)) return value.map(withoutEnvironment);
  if (!isJsonObject(value)) return value;
  const result: JsonObject = {};
  for (const [name, inner] of Object.entries(value))
    result[name] =
      name === "env" && Array.isArray(inner)
        ? inner.map((v) => (isJsonObject(v) && "value" in v ? { ...v, value: REDACTED } : v))
        : name === "args" || name === "command"
          ? [REDACTED]
          : withoutEnvironment(inner);
  return result;
}

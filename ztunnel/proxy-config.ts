// The part of Istio's ProxyConfig a node proxy reads: from the mesh file's `defaultConfig`, then from
// the PROXY_CONFIG variable, which wins field by field (and entry by entry in `proxyMetadata`).
import type { ConfigReader } from "#lib/base/config-reader.ts";

export interface ProxyConfig {
  readonly discoveryAddress: string | null;
  readonly proxyAdminPort: number | null;
  readonly statsPort: number | null;
  /** Data-plane threads; 0 is one per core. */
  readonly concurrency: number | null;
  readonly proxyMetadata: ReadonlyMap<string, string>;
}

type Parse = (text: string) => unknown;

/**
 * @param meshFile     text of the mesh file, null when there is none
 * @param proxyConfig  value of PROXY_CONFIG, null when unset
 * @param parseYaml    only called when one of them is given, so that the YAML parser is loaded on need
 */
export function readProxyConfig(
  reader: ConfigReader,
  meshFile: string | null,
  proxyConfig: string | null,
  parseYaml: Parse,
): ProxyConfig {
  const mesh = meshFile === null ? {} : fieldsOf(reader, "mesh file", meshFile, parseYaml);
  const base = isFields(mesh["defaultConfig"]) ? mesh["defaultConfig"] : {};
  const over = proxyConfig === null ? {} : fieldsOf(reader, "PROXY_CONFIG", proxyConfig, parseYaml);
  const merged = { ...base, ...over };
  return {
    discoveryAddress: text(reader, merged, "discoveryAddress"),
    proxyAdminPort: integer(reader, merged, "proxyAdminPort", 65_535),
    statsPort: integer(reader, merged, "statsPort", 65_535),
    concurrency: integer(reader, merged, "concurrency", 1_024),
    proxyMetadata: new Map([
      ...metadata(reader, base["proxyMetadata"]),
      ...metadata(reader, over["proxyMetadata"]),
    ]),
  };
}

type Fields = Readonly<Record<string, unknown>>;

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function fieldsOf(reader: ConfigReader, what: string, source: string, parse: Parse): Fields {
  let value: unknown;
  try {
    value = parse(source) ?? {};
  } catch (error) {
    reader.problem(`${what}: ${error instanceof Error ? error.message : String(error)}`);
    return {};
  }
  if (isFields(value)) return value;
  reader.problem(`${what}: expected a mapping`);
  return {};
}

function text(reader: ConfigReader, fields: Fields, name: string): string | null {
  const value = fields[name] ?? null;
  if (value === null || typeof value === "string") return value;
  reader.problem(`proxy config ${name}: expected text`);
  return null;
}

function integer(reader: ConfigReader, fields: Fields, name: string, max: number): number | null {
  const value = fields[name] ?? null;
  if (value === null) return null;
  if (typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= max)
    return value;
  reader.problem(`proxy config ${name}: expected a whole number from 0 to ${max}`);
  return null;
}

function metadata(reader: ConfigReader, value: unknown): [string, string][] {
  if (value === undefined || value === null) return [];
  if (!isFields(value)) {
    reader.problem("proxy config proxyMetadata: expected a mapping");
    return [];
  }
  return Object.entries(value).flatMap(([key, v]): [string, string][] => {
    if (typeof v === "string" || typeof v === "number" || typeof v === "boolean")
      return [[key, String(v)]];
    reader.problem(`proxy config proxyMetadata.${key}: expected text`);
    return [];
  });
}

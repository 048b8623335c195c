// One result, five formats. A command builds a `View`; this decides how it reaches stdout.
import { renderTable, type Column } from "./table.ts";

export const OUTPUT_FORMATS = ["table", "wide", "json", "yaml", "name"] as const;
export type OutputFormat = (typeof OUTPUT_FORMATS)[number];
export const API_VERSION = "ambit/v1";

/** What could not be asked, beside an answer that is otherwise good. */
export interface Unanswered {
  readonly node: string;
  readonly error: string;
}

export interface View<T> {
  readonly rows: readonly T[];
  readonly columns: readonly Column<T>[];
  /** `kind/name` for `-o name`. */
  readonly name: (row: T) => string;
  /** The whole document of `-o json` and `-o yaml`. */
  readonly document: unknown;
  /** One sentence for stderr instead of an empty table. */
  readonly empty: string;
  readonly gap?: number;
}

/** The envelope every list goes out in. */
export function listDocument(
  kind: string,
  items: readonly unknown[],
  meta: { readonly generatedAt: string; readonly partial: readonly Unanswered[] } & Readonly<
    Record<string, unknown>
  >,
): unknown {
  return { apiVersion: API_VERSION, kind, items, meta };
}

/** stdout's text for `view`; null when there are no rows to show as text. */
export async function renderView<T>(
  view: View<T>,
  format: OutputFormat,
  headers: boolean,
): Promise<string | null> {
  switch (format) {
    case "json":
      return renderJson(view.document);
    case "yaml":
      return await renderYaml(view.document);
    case "name":
      return view.rows.map((row) => `${view.name(row)}\n`).join("");
    case "table":
    case "wide":
      if (view.rows.length === 0) return null;
      return renderTable(view.rows, view.columns, {
        headers,
        wide: format === "wide",
        ...(view.gap === undefined ? {} : { gap: view.gap }),
      });
    default:
      return format satisfies never;
  }
}

export function renderJson(document: unknown): string {
  return `${JSON.stringify(document, null, 2)}\n`;
}

export async function renderYaml(document: unknown): Promise<string> {
  const { stringify } = await import("yaml"); // 30 ms, so only when asked for
  return stringify(JSON.parse(JSON.stringify(document)), { aliasDuplicateObjects: false });
}

/**
 * Whether the command line asks for JSON. Looks at the raw words, since errors of parsing them
 * must come out as JSON too.
 */
export function wantsJson(argv: readonly string[]): boolean {
  for (const [i, word] of argv.entries()) {
    if (word === "--") return false;
    if (word === "--json" || word === "-ojson" || word === "-o=json" || word === "--output=json")
      return true;
    if ((word === "-o" || word === "--output") && argv[i + 1] === "json") return true;
  }
  return false;
}

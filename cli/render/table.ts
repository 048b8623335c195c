// Tables the way kubectl prints them: upper-case headers, columns padded by spaces, nothing drawn.

export interface Column<T> {
  readonly header: string;
  readonly value: (row: T) => string;
  /** Shown only with `-o wide`. */
  readonly wide?: boolean;
}

export interface TableOptions {
  readonly headers?: boolean;
  readonly wide?: boolean;
  /** Spaces between columns: kubectl's 3 unless the table copies another tool's. */
  readonly gap?: number;
}

/** Ends with a newline; empty for no rows and no headers. The last column is not padded. */
export function renderTable<T>(
  rows: readonly T[],
  columns: readonly Column<T>[],
  options: TableOptions = {},
): string {
  const shown = columns.filter((c) => c.wide !== true || options.wide === true);
  const cells = rows.map((row) => shown.map((c) => oneLine(c.value(row))));
  if (options.headers !== false) cells.unshift(shown.map((c) => c.header));
  const widths = shown.map((_, i) =>
    cells.reduce((most, row) => Math.max(most, textWidth(row[i] ?? "")), 0),
  );
  return cells.map((row) => formatRow(row, widths, options.gap ?? 3)).join("");
}

/** Column widths fixed in advance, for rows that arrive one by one. */
export function formatRow(cells: readonly string[], widths: readonly number[], gap = 3): string {
  const padded = cells.map((cell, i) =>
    i === cells.length - 1
      ? cell
      : cell + " ".repeat(Math.max(0, (widths[i] ?? 0) - textWidth(cell)) + gap),
  );
  return `${padded.join("").trimEnd()}\n`;
}

/** Names and messages come from outside: nothing in a cell may move the cursor or break the row. */
export function oneLine(text: string): string {
  // eslint-disable-next-line no-control-regex -- these are what is being removed
  return text.replace(/[\u0000-\u001f\u007f-\u009f]+/g, " ");
}

/** Code points: names in Kubernetes are ASCII, and what is not comes from outside. */
function textWidth(text: string): number {
  return Array.from(text).length;
}

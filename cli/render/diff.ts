// A unified diff of two texts, line by line, as diff -u prints it.

const CONTEXT = 3;

/** Empty when they are equal. */
export function unifiedDiff(before: string, after: string, name: string): string {
  if (before === after) return "";
  const a = lines(before);
  const b = lines(after);
  const edits = script(a, b);
  const hunks: string[] = [];
  let at = 0;
  while (at < edits.length) {
    const first = edits.findIndex((e, i) => i >= at && e.op !== " ");
    if (first < 0) break;
    let last = first;
    for (let i = first; i < edits.length && i - last <= CONTEXT * 2; i++)
      if (edits[i]?.op !== " ") last = i;
    const from = Math.max(at, first - CONTEXT);
    const to = Math.min(edits.length, last + CONTEXT + 1);
    hunks.push(hunk(edits, from, to));
    at = to;
  }
  return `--- live/${name}\n+++ wanted/${name}\n${hunks.join("")}`;
}

interface Edit {
  readonly op: " " | "-" | "+";
  readonly text: string;
}

function hunk(edits: readonly Edit[], from: number, to: number): string {
  const count = (list: readonly Edit[], without: "-" | "+"): number =>
    list.filter((e) => e.op !== without).length;
  const before = edits.slice(0, from);
  const here = edits.slice(from, to);
  const [oldCount, newCount] = [count(here, "+"), count(here, "-")];
  const start = (n: number, size: number): number => (size === 0 ? n : n + 1);
  const oldStart = start(count(before, "+"), oldCount);
  const newStart = start(count(before, "-"), newCount);
  const body = here.map((e) => `${e.op}${e.text}\n`).join("");
  return `@@ -${oldStart},${oldCount} +${newStart},${newCount} @@\n${body}`;
}

function lines(text: string): string[] {
  return text === "" ? [] : text.replace(/\n$/, "").split("\n");
}

/** Longest common subsequence; manifests are hundreds of lines, so the quadratic table is small. */
function script(a: readonly string[], b: readonly string[]): Edit[] {
  const width = b.length + 1;
  const table = new Uint32Array((a.length + 1) * width);
  const at = (i: number, j: number): number => table[i * width + j] ?? 0;
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      table[i * width + j] =
        a[i] === b[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
  const edits: Edit[] = [];
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    const [x, y] = [a[i], b[j]];
    if (x !== undefined && x === y) {
      edits.push({ op: " ", text: x });
      i++;
      j++;
    } else if (x !== undefined && (y === undefined || at(i + 1, j) >= at(i, j + 1))) {
      edits.push({ op: "-", text: x });
      i++;
    } else {
      edits.push({ op: "+", text: y ?? "" });
      j++;
    }
  }
  return edits;
}

// What all descriptions are made of: lines of a heading word and a text, and remarks below them.

export interface Line {
  readonly label: string;
  readonly text: string;
  /** What is wrong with it or surprising; shown below. */
  readonly notes?: readonly string[];
}

export interface Description {
  /** `Pod shop/cart   node worker-1   ip 10.244.1.7`. */
  readonly title: string;
  readonly lines: readonly Line[];
  /** Commands that go on from here. */
  readonly next: readonly string[];
  /** `kind/name`. */
  readonly name: string;
  /** The same for programs. */
  readonly document: Readonly<Record<string, unknown>>;
}

export function descriptionText({ title, lines, next }: Description): string {
  const all = [...lines, ...next.map((text, i) => ({ label: i === 0 ? "Next" : "", text }))];
  const width = Math.max(...all.map((l) => l.label.length)) + 2;
  const out = [title];
  for (const line of all) {
    out.push(`${line.label.padEnd(width)}${line.text}`);
    for (const note of "notes" in line ? (line.notes ?? []) : [])
      out.push(`${" ".repeat(width)}! ${note}`);
  }
  return `${out.join("\n")}\n`;
}

// "Did you mean": the known names nearest to what was typed.

/** The nearest of `known`, at most `limit` when several are as near; empty when nothing is near. */
export function suggest(typed: string, known: Iterable<string>, limit = 3): string[] {
  const word = typed.toLowerCase();
  const allowed = Math.max(1, Math.floor(word.length / 3));
  const near = [...new Set(known)]
    .map((name) => ({ name, distance: score(word, name.toLowerCase()) }))
    .filter((c) => c.distance <= allowed)
    .sort((a, b) => a.distance - b.distance || a.name.localeCompare(b.name));
  return near
    .filter((c) => c.distance === near[0]?.distance)
    .slice(0, limit)
    .map((c) => c.name);
}

/** A hint line, or none when nothing is near. */
export function didYouMean(typed: string, known: Iterable<string>): string[] {
  const near = suggest(typed, known);
  return near.length === 0 ? [] : [`did you mean ${near.join(" or ")}?`];
}

function score(typed: string, name: string): number {
  if (typed.length >= 3 && (name.startsWith(typed) || name.endsWith(`/${typed}`))) return 1;
  return editDistance(typed, name);
}

/** Insertions, deletions, substitutions and swaps of neighbours. Names are short: O(n·m) is fine. */
export function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let best = Math.min(
        (previous[j] ?? 0) + 1,
        (row[j - 1] ?? 0) + 1,
        (previous[j - 1] ?? 0) + (same ? 0 : 1),
      );
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        best = Math.min(best, (before[j - 2] ?? 0) + 1);
      row.push(best);
    }
    before = previous;
    previous = row;
  }
  return previous[b.length] ?? 0;
}

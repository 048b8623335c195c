// Several line streams as one, in order of arrival, with the slowest reader deciding the pace.

export interface NamedLines {
  readonly name: string;
  readonly lines: AsyncIterable<string>;
}

/**
 * Ends when every stream has ended or `signal` aborts. A stream that fails is dropped and reported to `onLost`.
 * Holds at most one line of each stream.
 * @throws the last failure when no stream is left that ever delivered or ended well
 */
export async function* mergeStreams(
  streams: readonly NamedLines[],
  signal: AbortSignal,
  onLost: (name: string, error: Error) => void,
): AsyncIterable<{ readonly name: string; readonly line: string }> {
  type Step = { readonly name: string; readonly result: IteratorResult<string> | Error };
  const iterators = new Map(streams.map((s) => [s.name, s.lines[Symbol.asyncIterator]()]));
  const pending = new Map<string, Promise<Step>>();
  const advance = (name: string): void => {
    const iterator = iterators.get(name);
    if (iterator === undefined) return;
    pending.set(
      name,
      iterator.next().then(
        (result) => ({ name, result }),
        (error: unknown) => ({
          name,
          result: error instanceof Error ? error : new Error(String(error)),
        }),
      ),
    );
  };
  for (const name of iterators.keys()) advance(name);
  let fine = 0;
  let failure: Error | null = null;
  while (pending.size > 0) {
    const { name, result } = await Promise.race(pending.values());
    pending.delete(name);
    if (signal.aborted) break;
    if (result instanceof Error) {
      failure = result;
      onLost(name, result);
    } else if (result.done === true) fine++;
    else {
      fine++;
      yield { name, line: result.value };
      advance(name);
    }
  }
  if (fine === 0 && failure !== null && !signal.aborted) throw failure;
}

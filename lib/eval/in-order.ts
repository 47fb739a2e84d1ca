// Keeps several requests in flight, so that the engine batches them, and hands their results over in order.

import { abortError } from '../model/abort.ts';

/**
 * Runs `work` on every item, at most `inFlight` at a time. A failure or a reader that leaves aborts what is still running.
 * @param work gets a signal of its own that is aborted then (one signal for all would gather listeners)
 */
export async function* inOrder<Item, Result>(
  items: Iterable<Item>,
  inFlight: number,
  work: (item: Item, signal: AbortSignal) => Promise<Result>,
  signal?: AbortSignal,
): AsyncGenerator<Result, void, undefined> {
  const source = items[Symbol.iterator]();
  const pending: { result: Promise<Result>; stop: AbortController }[] = [];
  const abortAll = () => {
    for (const { stop } of pending) stop.abort(signal?.reason);
  };
  const fill = () => {
    while (pending.length < inFlight && !signal?.aborted) {
      const next = source.next();
      if (next.done) return;
      const stop = new AbortController();
      const result = work(next.value, stop.signal);
      result.catch(() => {}); // reported when its turn comes
      pending.push({ result, stop });
    }
  };
  signal?.addEventListener('abort', abortAll, { once: true });
  try {
    for (fill(); pending.length > 0; fill()) {
      const result = await pending[0]!.result;
      pending.shift();
      yield result;
    }
    if (signal?.aborted) throw abortError(signal);
  } finally {
    signal?.removeEventListener('abort', abortAll);
    abortAll();
    await Promise.allSettled(pending.map(({ result }) => result));
  }
}

/** Which of many items to evaluate: every n-th, from the first on, and at most so many. */
export interface Subset {
  /** Default 1: all. */
  every?: number | undefined;
  limit?: number | undefined;
}

export function subsetOf<Item>(items: readonly Item[], { every = 1, limit = items.length }: Subset): Item[] {
  return items.filter((_, i) => i % every === 0).slice(0, limit);
}

/** All results of a sequence. */
export async function gather<Result>(results: AsyncIterable<Result>): Promise<Result[]> {
  const all: Result[] = [];
  for await (const result of results) all.push(result);
  return all;
}

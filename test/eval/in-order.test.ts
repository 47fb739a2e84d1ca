import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { gather, inOrder, subsetOf } from '../../lib/eval/in-order.ts';

const numbers = Array.from({ length: 20 }, (_, i) => i);

describe('results in order', () => {
  it('whatever order the work ends in, and never more in flight than asked for', async () => {
    let [running, most] = [0, 0];
    const work = async (i: number) => {
      most = Math.max(most, ++running);
      await sleep((i * 7) % 5);
      running--;
      return i;
    };
    expect(await gather(inOrder(numbers, 6, work))).toEqual(numbers);
    expect(most).toBe(6);
    expect(await gather(inOrder([], 6, work))).toEqual([]);
  });

  it('a failure stops the rest, and comes when its turn does', async () => {
    const started: number[] = [];
    const stopped: number[] = [];
    const work = async (i: number, signal: AbortSignal) => {
      started.push(i);
      signal.addEventListener('abort', () => stopped.push(i));
      if (i === 2) throw new Error('two');
      await sleep(i < 2 ? 1 : 30);
      return i;
    };
    const seen: number[] = [];
    const read = async () => {
      for await (const i of inOrder(numbers, 4, work)) seen.push(i);
    };
    await expect(read()).rejects.toThrow('two');
    expect(seen).toEqual([0, 1]);
    expect(started).toEqual([0, 1, 2, 3, 4, 5]);
    expect(stopped).toEqual([2, 3, 4, 5]);
  });

  it('a reader that leaves stops what is running', async () => {
    const stopped: number[] = [];
    const work = async (i: number, signal: AbortSignal) => {
      signal.addEventListener('abort', () => stopped.push(i));
      await sleep(1);
      return i;
    };
    for await (const i of inOrder(numbers, 3, work)) if (i === 1) break;
    expect(stopped).toEqual([2, 3]);
  });

  it('an aborted signal rejects, before and amid', async () => {
    const work = async (i: number) => {
      await sleep(1);
      return i;
    };
    await expect(gather(inOrder(numbers, 3, work, AbortSignal.abort()))).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    const stop = new AbortController();
    const read = async () => {
      for await (const i of inOrder(numbers, 3, work, stop.signal)) if (i === 4) stop.abort();
    };
    await expect(read()).rejects.toMatchObject({ code: 'ERR_ABORTED' });
  });
});

it('a subset is every n-th item from the first, and at most so many', () => {
  expect(subsetOf(numbers, {})).toEqual(numbers);
  expect(subsetOf(numbers, { every: 3 })).toEqual([0, 3, 6, 9, 12, 15, 18]);
  expect(subsetOf(numbers, { every: 3, limit: 2 })).toEqual([0, 3]);
  expect(subsetOf(numbers, { limit: 100 })).toEqual(numbers);
});

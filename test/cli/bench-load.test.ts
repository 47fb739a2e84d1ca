// What `bench throughput` sends: when, how much, and what it makes of its flags.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { poissonArrivals } from '../../lib/cli/bench/arrivals.ts';
import { parseObjective } from '../../lib/cli/bench/objective.ts';
import { loadName, loadsOf, positiveList, rateOf } from '../../lib/cli/bench/throughput-load.ts';
import { longestRequest, prefixWorkload, randomWorkload, type WorkItem } from '../../lib/cli/bench/workload.ts';
import { parseRequests } from '../../lib/cli/bench/workload-file.ts';

describe('Poisson arrivals', () => {
  const gaps = (times: readonly number[]) => times.map((time, i) => time - (times[i - 1] ?? 0));

  it('have gaps of mean 1 that are exponential: as long as x with probability e^-x', () => {
    const all = gaps(poissonArrivals(20_000, 7));
    expect(all.reduce((sum, gap) => sum + gap, 0) / all.length).toBeCloseTo(1, 3);
    // A share of 20,000 has a standard deviation of at most 0.0036; the bound is four of them.
    for (const x of [0.1, 0.5, 1, 2, 4]) {
      const share = all.filter((gap) => gap >= x).length / all.length;
      expect(Math.abs(share - Math.exp(-x))).toBeLessThan(0.0145);
    }
  });

  it('come in order, all within their time, the same for the same seed', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 300 }), fc.nat(), (count, seed) => {
        const times = poissonArrivals(count, seed);
        expect(times).toHaveLength(count);
        expect(gaps(times).every((gap) => gap >= 0)).toBe(true);
        expect(times.every((time) => time <= count)).toBe(true);
        expect(poissonArrivals(count, seed)).toEqual(times);
      }),
    );
    expect(poissonArrivals(9, 1)).not.toEqual(poissonArrivals(9, 2));
  });
});

describe('workloads', () => {
  const lengths = { requests: 200, input: 640, output: 64, spread: 0.25, seed: 3 };
  const drawn = (items: readonly WorkItem[]) =>
    items.map((item) => [item.promptTokens, item.maxTokens, ...item.tokenIds(997)]);

  it('of random prompts are uniform around their means, and the same for the same seed', () => {
    const items = randomWorkload(lengths);
    expect(drawn(randomWorkload(lengths))).toEqual(drawn(items));
    expect(drawn(randomWorkload({ ...lengths, seed: 4 }))).not.toEqual(drawn(items));
    const inputs = items.map((item) => item.promptTokens);
    const outputs = items.map((item) => item.maxTokens);
    expect(Math.min(...inputs)).toBeGreaterThanOrEqual(480);
    expect(Math.max(...inputs)).toBeLessThanOrEqual(800);
    expect(Math.min(...outputs)).toBeGreaterThanOrEqual(48);
    expect(Math.max(...outputs)).toBeLessThanOrEqual(80);
    // The mean of 200 has a standard deviation of 640 * 0.25 / sqrt(3 * 200) = 6.5.
    expect(Math.abs(inputs.reduce((sum, n) => sum + n, 0) / 200 - 640)).toBeLessThan(26);
  });

  it('take lengths as they are without spread, and at least one token with it', () => {
    for (const item of randomWorkload({ ...lengths, spread: 0 })) {
      expect(item).toMatchObject({ promptTokens: 640, maxTokens: 64 });
    }
    for (const item of randomWorkload({ ...lengths, input: 1, output: 1, spread: 0.9 })) {
      expect(item).toMatchObject({ promptTokens: 1, maxTokens: 1 });
    }
  });

  it('draw ids all over the vocabulary and never beyond', () => {
    const ids = randomWorkload({ ...lengths, requests: 20 }).flatMap((item) => [...item.tokenIds(100)]);
    expect(new Set(ids).size).toBe(100);
    expect(Math.max(...ids)).toBe(99);
  });

  it('have no beginning in common, so that a prefix cache finds nothing', () => {
    const beginnings = randomWorkload(lengths).map((item) => item.tokenIds(32_000).slice(0, 16).join());
    expect(new Set(beginnings).size).toBe(lengths.requests);
  });

  it('of families share exactly their prefix', () => {
    const options = { ...lengths, requests: 7, prefixLength: 48, prefixCount: 3 };
    const items = prefixWorkload(options);
    expect(drawn(prefixWorkload(options))).toEqual(drawn(items));
    const ids = items.map((item) => item.tokenIds(32_000));
    const prefix = (i: number) => ids[i]!.slice(0, 48).join();
    for (const [i, own] of randomWorkload(options).entries()) {
      expect(items[i]!.promptTokens).toBe(48 + own.promptTokens);
      expect(ids[i]).toHaveLength(48 + own.promptTokens);
      expect(prefix(i)).toBe(prefix(i % 3));
    }
    expect(new Set([0, 1, 2].map(prefix)).size).toBe(3);
    expect(ids[0]!.slice(48, 64)).not.toEqual(ids[3]!.slice(48, 64));
  });

  it('know their longest request, and must have one', () => {
    expect(longestRequest(randomWorkload({ ...lengths, spread: 0 }))).toBe(704);
    expect(() => longestRequest([])).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }));
  });
});

describe('a file of requests', () => {
  it('has texts and token ids, and lines of nothing', () => {
    expect(
      parseRequests('{"prompt":"Hi","maxTokens":3}\n\n{"tokenIds":[1,2],"maxTokens":1,"note":"x"}\n', 'f'),
    ).toEqual([
      { prompt: 'Hi', maxTokens: 3 },
      { prompt: [1, 2], maxTokens: 1 },
    ]);
  });

  const wrong: [string, RegExp][] = [
    ['{', /f:2: expected a JSON object/],
    ['[]', /f:2: expected a JSON object/],
    ['{"maxTokens":1}', /either prompt or tokenIds/],
    ['{"prompt":"a","tokenIds":[1],"maxTokens":1}', /either prompt or tokenIds/],
    ['{"prompt":"","maxTokens":1}', /a text for prompt/],
    ['{"prompt":7,"maxTokens":1}', /a text for prompt but received 7/],
    ['{"tokenIds":[],"maxTokens":1}', /at least one integer/],
    ['{"tokenIds":[-1],"maxTokens":1}', /at least one integer/],
    ['{"tokenIds":[2147483648],"maxTokens":1}', /at least one integer/],
    ['{"prompt":"a"}', /integer >= 1 for maxTokens but received nothing/],
    ['{"prompt":"a","maxTokens":0}', /integer >= 1 for maxTokens but received 0/],
  ];
  it.each(wrong)('%s is refused by its line', (line, message) => {
    expect(() => parseRequests(`\n${line}`, 'f')).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT', message: expect.stringMatching(message) }),
    );
  });
});

describe('loads', () => {
  it('are all at once unless something else is asked for', () => {
    expect(loadsOf({})).toEqual([{ kind: 'offline' }]);
    expect(loadsOf({ concurrency: [1, 64] }).map(loadName)).toEqual(['1 at a time', '64 at a time']);
    expect(loadsOf({ offline: true, rate: [2], rateFraction: [0.5] }).map(loadName)).toEqual([
      'all at once',
      '2/s',
      '0.5 of saturation',
    ]);
  });

  it('follow the clock only where there is a rate', () => {
    expect(
      loadsOf({ offline: true, concurrency: [3], rate: [2], rateFraction: [0.5] }).map((l) => rateOf(l, 8)),
    ).toEqual([null, null, 2, 4]);
  });

  it('take positive numbers', () => {
    expect(positiveList('0.5, 2,0.5')).toEqual([0.5, 2]);
    for (const text of ['', '0', '-1', '1,', 'x', 'Infinity']) expect(() => positiveList(text)).toThrow(/above 0/);
  });

  it('have objectives by name', () => {
    expect(parseObjective('ttft=500,tpot=50.5, e2e=1')).toEqual({ ttft: 500, tpot: 50.5, e2e: 1 });
    for (const text of ['', 'ttft', 'ttft=', 'ttft=-1', 'itl=3', 'ttft=1,ttft=2', 'toString=1']) {
      expect(() => parseObjective(text)).toThrow(/ttft=MS, tpot=MS, e2e=MS/);
    }
  });
});

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isDisturbed, othersShare, readCpu } from '../../lib/cli/bench/cpu-share.ts';
import { rates } from '../../lib/cli/bench/kernel-result.ts';
import { watch } from '../../lib/cli/bench/quiet.ts';
import { median, quantile, relativeSpread, spread } from '../../lib/cli/bench/statistics.ts';

describe('order statistics', () => {
  it('interpolate between neighbours and leave the samples as they are', () => {
    const samples = [4, 1, 3, 2];
    expect(median(samples)).toBe(2.5);
    expect(spread(samples)).toEqual({ median: 2.5, low: 1.75, high: 3.25, samples: 4 });
    expect(relativeSpread(spread(samples))).toBeCloseTo(0.6, 12);
    expect(samples).toEqual([4, 1, 3, 2]);
  });

  it('of one sample are that sample, and of none not a number', () => {
    expect(spread([7])).toEqual({ median: 7, low: 7, high: 7, samples: 1 });
    expect(median([])).toBeNaN();
  });

  it('sort as numbers', () => expect(median([10, 9, 100])).toBe(10));

  it('lie within the samples and in order', () => {
    fc.assert(
      fc.property(fc.array(fc.float({ noNaN: true, noDefaultInfinity: true }), { minLength: 1 }), (samples) => {
        const at = [0, 0.25, 0.5, 0.75, 1].map((q) => quantile(samples, q));
        expect(at[0] === Math.min(...samples)).toBe(true);
        expect(at[4] === Math.max(...samples)).toBe(true);
        for (let i = 1; i < at.length; i++) expect(at[i]).toBeGreaterThanOrEqual(at[i - 1]!);
      }),
    );
  });
});

describe('the share of other processes', () => {
  const stat = (user: number, steal = 0) =>
    `cpu  ${user} 10 20 5000 3 1 2 ${steal} 0 0\ncpu0 1 2 3 4\ncpu1 1 2 3 4\nintr 1\n`;

  it('counts every kind of busy time, stolen time included, and the CPUs', () => {
    const reading = readCpu(() => stat(100, 7))!;
    expect(reading.cpus).toBe(2);
    expect(reading.busyMs).toBe((100 + 10 + 20 + 1 + 2 + 7) * 10);
  });

  it('is what is left of the busy time without our own', () => {
    const at = (atMs: number, busyMs: number, ownMs: number) => ({ atMs, cpus: 2, busyMs, ownMs });
    expect(othersShare(at(0, 0, 0), at(1000, 1500, 1000))).toBeCloseTo(0.25, 12);
    // Ticks are coarse: ours may seem to be more than all.
    expect(othersShare(at(0, 0, 0), at(1000, 900, 1000))).toBe(0);
  });

  it('is unknown without /proc/stat, in one that cannot be read, and over too short a time', () => {
    expect(readCpu(() => null)).toBeNull();
    expect(readCpu(() => 'something else')).toBeNull();
    expect(
      othersShare(
        null,
        readCpu(() => stat(1)),
      ),
    ).toBeNull();
    const reading = { atMs: 0, cpus: 2, busyMs: 0, ownMs: 0 };
    expect(othersShare(reading, { ...reading, atMs: 50, busyMs: 50 })).toBeNull();
  });

  it('disturbs when it takes what our threads need', () => {
    expect(isDisturbed(0.04, 2, 2)).toBe(false);
    expect(isDisturbed(0.06, 2, 2)).toBe(true);
    expect(isDisturbed(0.5, 1, 2)).toBe(false);
    expect(isDisturbed(0.6, 1, 2)).toBe(true);
    expect(isDisturbed(null, 2, 2)).toBe(false);
  });
});

it('a quiet or unknown measurement is made once', async () => {
  let calls = 0;
  const watched = await watch(1e9, async () => ++calls);
  expect(calls).toBe(watched.attempts);
  expect(watched.attempts).toBeLessThanOrEqual(3);
  expect(await watch(1, async () => 'x', 1)).toMatchObject({ value: 'x', attempts: 1 });
});

describe('rates', () => {
  it('compare with both limits, and name the slower one', () => {
    // 4e9 operations and 1e9 bytes in 10 ms; 8e11 a second and 1e11 a second would take 5 ms and 10 ms.
    expect(rates({ flops: 4e9, bytes: 1e9 }, 10, 8e11, 1e11)).toEqual({
      gflops: 400,
      gbps: 100,
      ofPeak: 0.5,
      ofBandwidth: 1,
      ofLimit: 1,
      limit: 'memory',
    });
    expect(rates({ flops: 8e9, bytes: 1e8 }, 20, 8e11, 1e11)).toMatchObject({ ofLimit: 0.5, limit: 'compute' });
  });

  it('have no share of a peak where nothing is multiplied, or the level has no such instruction', () => {
    expect(rates({ flops: 0, bytes: 1e9 }, 10, null, 1e11)).toMatchObject({
      gflops: null,
      ofPeak: null,
      limit: 'memory',
    });
    expect(rates({ flops: 1e9, bytes: 1e9 }, 10, null, 1e11)).toMatchObject({ gflops: 100, ofPeak: null });
  });
});

// Paired differences against published values, and against how often their intervals hold the truth.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../lib/cli/random.ts';
import { pairedMean, pairedShare, perplexityChange, scoreInterval, studentT95 } from '../../lib/eval/paired.ts';

const rounded = ({ low, high }: { low: number; high: number }) => [low, high].map((x) => Number(x.toFixed(4)));

describe('the interval of a difference of shares', () => {
  it('is that of published examples', () => {
    // M. W. Fagerland, S. Lydersen, P. Laake, Statistical Analysis of Contingency Tables (2017), chapter 8.
    expect(rounded(scoreInterval(6, 16, 161))).toEqual([-0.124, -0.0054]);
    expect(rounded(scoreInterval(1, 7, 21))).toEqual([-0.5172, -0.026]);
    // A. Agresti, Y. Min, Statistics in Medicine 24 (2005) 729-740: 53, 16, 8 and 9 pairs.
    expect(rounded(scoreInterval(16, 8, 86)).map((x) => Number(x.toFixed(3)))).toEqual([-0.02, 0.207]);
  });

  it('of pairs that are all alike says how much may have been missed, and of all unlike stays within -1 and 1', () => {
    const z2 = 1.959963984540054 ** 2;
    for (const items of [1, 10, 200]) {
      const { value, low, high } = scoreInterval(0, 0, items);
      expect(value).toBe(0);
      expect(high).toBeCloseTo(z2 / (items + z2), 12);
      expect(low).toBeCloseTo(-z2 / (items + z2), 12);
    }
    expect(scoreInterval(5, 0, 5)).toMatchObject({ value: 1, high: 1 });
    expect(scoreInterval(0, 5, 5)).toMatchObject({ value: -1, low: -1 });
  });

  it('holds the estimate, turns around with its sides, and leaves 0 out where the score test of McNemar rejects', () => {
    const counts = fc.tuple(fc.nat(40), fc.nat(40), fc.nat(200)).filter(([b, c, alike]) => b + c + alike > 0);
    fc.assert(
      fc.property(counts, ([gained, lost, alike]) => {
        const items = gained + lost + alike;
        const { value, low, high } = scoreInterval(gained, lost, items);
        expect(value).toBe((gained - lost) / items);
        expect(low).toBeGreaterThanOrEqual(-1);
        expect(high).toBeLessThanOrEqual(1);
        expect(low <= value && value <= high).toBe(true);
        const turned = scoreInterval(lost, gained, items);
        expect(turned.low).toBeCloseTo(-high, 12);
        expect(turned.high).toBeCloseTo(-low, 12);
        const rejects = gained + lost > 0 && Math.abs(gained - lost) / Math.sqrt(gained + lost) > 1.959963984540054;
        expect(low > 1e-12 || high < -1e-12).toBe(rejects);
      }),
    );
  });

  // Exact, by summing the probability of all counts. The nominal 95% is kept on average; counts are discrete, and the
  // least of these (a rate of 2% on one side alone, 200 items) is 93.3%. Mean ± 1.96 standard errors has 62% there
  // for 0.5%.
  const rates: [number, number][] = [
    [0.005, 0.005],
    [0.005, 0],
    [0.02, 0],
    [0.02, 0.01],
    [0.13, 0.03],
    [0.1, 0.1],
    [0.3, 0.2],
    [0.9, 0.05],
  ];
  it.each([20, 50, 200])('holds the true difference 93% of the time or more: %i items', (items) => {
    const logFactorial = [0];
    for (let i = 1; i <= items; i++) logFactorial.push(logFactorial[i - 1]! + Math.log(i));
    const times = (count: number, rate: number) => (count === 0 ? 0 : count * Math.log(rate));
    const coverage = rates.map(([gains, loses]) => {
      let covered = 0;
      for (let b = 0; b <= items; b++) {
        for (let c = 0; b + c <= items; c++) {
          const ways = logFactorial[items]! - logFactorial[b]! - logFactorial[c]! - logFactorial[items - b - c]!;
          const rest = items - b - c;
          const probability = Math.exp(ways + times(b, gains) + times(c, loses) + times(rest, 1 - gains - loses));
          if (probability < 1e-9) continue;
          const { low, high } = scoreInterval(b, c, items);
          if (low <= gains - loses && gains - loses <= high) covered += probability;
        }
      }
      return covered;
    });
    expect(Math.min(...coverage)).toBeGreaterThan(0.93);
  });

  it('counts what was gained and lost item by item', () => {
    const first = [true, true, false, false, true];
    const second = [true, false, true, true, true];
    expect(pairedShare(first, second)).toEqual({ ...scoreInterval(2, 1, 5), items: 5, gained: 2, lost: 1 });
    expect(pairedShare(first, first)).toMatchObject({ value: 0, gained: 0, lost: 0 });
  });
});

describe('the interval of a mean over clusters', () => {
  it("over clusters of one size is the paired t interval of the clusters' means", () => {
    const differences = [0.1, 0.3, -0.2, 0.4, 0.15];
    const first = [3, 4, 5, 3.5, 4.2];
    const second = first.map((x, i) => x + differences[i]!);
    const scaled = (xs: number[]) => xs.map((x) => x * 100);
    const { value, low, high } = pairedMean(scaled(first), scaled(second), [100, 100, 100, 100, 100]);
    const mean = 0.15;
    const variance = differences.reduce((total, x) => total + (x - mean) ** 2, 0) / 4;
    // 2.7764 is the 97.5% quantile of Student's t with 4 degrees of freedom; ours is within 0.13% of it.
    const half = 2.7764451051977934 * Math.sqrt(variance / 5);
    expect(value).toBeCloseTo(mean, 12);
    expect(Math.abs(high - value - half)).toBeLessThan(half * 0.0013);
    expect(high - value).toBeCloseTo(value - low, 12);
  });

  it('of identical clusters is 0 [0, 0], and of one has no limits', () => {
    const nats = [100.25, 37.5, 61.125];
    expect(pairedMean(nats, nats, [50, 20, 30])).toEqual({ value: 0, low: 0, high: 0 });
    expect(perplexityChange(nats, nats, [50, 20, 30])).toEqual({ value: 0, low: 0, high: 0 });
    expect(perplexityChange([100], [110], [50])).toEqual({ value: Math.expm1(0.2), low: Number.NaN, high: Number.NaN });
  });

  it("Student's t is the table's", () => {
    const table: [number, number][] = [
      [1, 12.706204736174696],
      [2, 4.302652729749462],
      [3, 3.1824463052837078],
      [5, 2.5705818356363146],
      [9, 2.262157162798205],
      [29, 2.045229642132703],
      [250, 1.9694983934214523],
    ];
    for (const [freedom, t] of table) expect(Math.abs(studentT95(freedom) / t - 1)).toBeLessThan(0.0013);
    expect(studentT95(0)).toBeNaN();
  });

  it('holds the true change of perplexity about 95% of the time, however far the windows are apart', () => {
    const random = seededRandom(7);
    const normal = () => Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next());
    const truth = Math.expm1(0.05);
    const runs = 4000;
    for (const windows of [5, 40]) {
      let [covered, own] = [0, 0];
      for (let run = 0; run < runs; run++) {
        // Difficulty differs by 0.6 nats between windows, a change by 0.03; a window has 100 to 511 tokens.
        const tokens = Array.from({ length: windows }, () => 100 + random.below(412));
        const first = tokens.map((size) => size * (3.6 + 0.6 * normal()));
        const second = tokens.map((size, i) => first[i]! + size * (0.05 + 0.03 * normal()));
        const { low, high } = perplexityChange(first, second, tokens);
        if (low <= truth && truth <= high) covered++;
        own += (high - low) / runs;
      }
      // Three standard errors of a share of 95% among 4,000 are 1.0%; a ratio of five clusters is a little too narrow.
      expect(covered / runs).toBeGreaterThan(windows === 5 ? 0.92 : 0.94);
      expect(covered / runs).toBeLessThan(0.96);
      // Of the two figures apart it would be 0.6 / 0.03 = 20 times as wide, and more.
      if (windows === 40) expect(own).toBeLessThan(0.03);
    }
  });
});

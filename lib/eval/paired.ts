// Paired comparison: what a change makes of results on the same items and windows. What both find hard cancels out, so
// the interval of the difference is far narrower than those of the two figures.

import { sum } from './statistics.ts';

/** A difference and the 95% confidence interval of it; NaN limits where there are too few samples to say. */
export interface Interval {
  value: number;
  low: number;
  high: number;
}

export interface PairedShare extends Interval {
  items: number;
  /** Items that only the second got right, and that only the first did. */
  gained: number;
  lost: number;
}

/** The standard normal quantile of 97.5%. */
const z95 = 1.959963984540054;

/**
 * The share that the second got right less that of the first: the mean of the items' differences, with Tango's score
 * interval. It takes the limits at which the score test of the difference rejects, with the probability of a discordant
 * pair estimated under each hypothesis, so it stays sound near 0 and 100% and where few or no pairs differ, where mean
 * ± 1.96 standard errors shrinks to nothing: n pairs alike leave ± z²/(n + z²). It leaves 0 out exactly where McNemar's
 * test, uncorrected, rejects.
 *
 * T. Tango, Equivalence test and confidence interval for the difference in proportions for the paired-sample design,
 * Statistics in Medicine 17 (1998) 891-908.
 */
export function pairedShare(first: readonly boolean[], second: readonly boolean[]): PairedShare {
  const items = first.length;
  const gained = second.filter((right, i) => right && !first[i]).length;
  const lost = first.filter((right, i) => right && !second[i]).length;
  return { ...scoreInterval(gained, lost, items), items, gained, lost };
}

/** Tango's interval of (gained - lost) / items. */
export function scoreInterval(gained: number, lost: number, items: number): Interval {
  const value = (gained - lost) / items;
  // Falls as the difference grows, so each limit is one bisection.
  const score = (difference: number) => {
    const a = 2 * items;
    const b = (2 * items - gained + lost) * difference - gained - lost;
    const c = -lost * difference * (1 - difference);
    const loses = (Math.sqrt(Math.max(0, b * b - 4 * a * c)) - b) / (2 * a);
    const variance = items * (2 * loses + difference * (1 - difference));
    return (gained - lost - items * difference) / Math.sqrt(variance);
  };
  return {
    value,
    low: value === -1 ? -1 : bisect(-1, value, (difference) => score(difference) > z95),
    high: value === 1 ? 1 : bisect(value, 1, (difference) => score(difference) >= -z95),
  };
}

/**
 * The second's mean per unit less the first's, over clusters of unequal size, such as nats per token over windows. The
 * error is that of a ratio of sums, of the clusters' differences to their sizes, and Student's t makes it an interval.
 *
 * W. G. Cochran, Sampling Techniques, 3rd edition (1977), section 6.3.
 */
export function pairedMean(first: readonly number[], second: readonly number[], sizes: readonly number[]): Interval {
  const differences = second.map((total, i) => total - first[i]!);
  const n = sizes.length;
  const size = sum(sizes);
  const value = sum(differences) / size;
  const squares = sum(differences.map((difference, i) => (difference - value * sizes[i]!) ** 2));
  const error = (studentT95(n - 1) * Math.sqrt((squares * n) / (n - 1))) / size;
  return { value, low: value - error, high: value + error };
}

/** The perplexity of the second over that of the first, less 1: from the nats of each window, which have `tokens` each. */
export function perplexityChange(
  first: readonly number[],
  second: readonly number[],
  tokens: readonly number[],
): Interval {
  const { value, low, high } = pairedMean(first, second, tokens);
  return { value: Math.expm1(value), low: Math.expm1(low), high: Math.expm1(high) };
}

/**
 * The quantile of 97.5% of Student's t: exact for 1 and 2 degrees of freedom, else the expansion in their inverse
 * (M. Abramowitz, I. A. Stegun, Handbook of Mathematical Functions, 26.7.5), which is within 0.13%.
 */
export function studentT95(freedom: number): number {
  if (freedom < 1) return Number.NaN;
  if (freedom === 1) return Math.tan(Math.PI * 0.475);
  if (freedom === 2) return 0.95 * Math.sqrt(2 / (1 - 0.95 ** 2));
  const z = z95;
  const terms = [
    z,
    (z ** 3 + z) / 4,
    (5 * z ** 5 + 16 * z ** 3 + 3 * z) / 96,
    (3 * z ** 7 + 19 * z ** 5 + 17 * z ** 3 - 15 * z) / 384,
    (79 * z ** 9 + 776 * z ** 7 + 1482 * z ** 5 - 1920 * z ** 3 - 945 * z) / 92160,
  ];
  return sum(terms.map((term, i) => term / freedom ** i));
}

/** The end of [low, high] up to which `holds`, to the last bits of a double. */
function bisect(low: number, high: number, holds: (x: number) => boolean): number {
  let [from, to] = [low, high];
  for (let i = 0; i < 60; i++) {
    const middle = (from + to) / 2;
    if (holds(middle)) from = middle;
    else to = middle;
  }
  return (from + to) / 2;
}

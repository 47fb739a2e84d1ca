// When requests arrive: a Poisson process, the same for the same seed.

import { seededRandom } from '../random.ts';

/**
 * Times of `count` arrivals in units of the mean gap, ascending: exponential gaps, scaled so that exactly `count` arrive
 * within `count` units. (That is a Poisson process given its count; without it the rate of a short run would be off by
 * 1 / sqrt(count).)
 */
export function poissonArrivals(count: number, seed: number): number[] {
  const random = seededRandom(seed);
  const times: number[] = [];
  let at = 0;
  // One gap more than arrivals: the one after the last.
  for (let i = 0; i <= count; i++) {
    at += -Math.log(1 - random.next());
    times.push(at);
  }
  return times.slice(0, count).map((time) => (time / at) * count);
}

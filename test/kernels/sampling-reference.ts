// What `sample` must do, written out without a thought for speed: adjustments, filters, the distribution they leave, and
// a chi-square test of draws against it.

import type { SamplerOptions } from '../../lib/kernels/index.ts';

export type Sampler = Required<SamplerOptions>;

/** Every adjustment and filter off; sampling at temperature 1. */
export const plain: Sampler = {
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  seed: 0n,
  choice: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: new Map(),
  minTokens: 0,
  endIds: [],
  promptIds: [],
  outputIds: [],
};

export interface Row {
  logits: Float32Array;
  sampler: Sampler;
  /** Of the token among the outputs. */
  position: number;
  /** By the bitmask. */
  allowed?: (id: number) => boolean;
}

const never = Number.NEGATIVE_INFINITY;

/** The row after bitmask, bias, ending tokens, repetition penalty, frequency and presence penalty, in this order. */
export function adjusted(row: Row, round = (x: number) => x): number[] {
  const { sampler: s, position, allowed = () => true } = row;
  const [prompt, outputs] = [Array.from(s.promptIds), Array.from(s.outputIds)];
  const r = round(s.repetitionPenalty);
  return Array.from(row.logits, (logit, id) => {
    if (!allowed(id)) return never;
    let x = round(logit + round(s.logitBias.get(id) ?? 0));
    if (position < s.minTokens && Array.from(s.endIds).includes(id)) x = never;
    if (prompt.includes(id) || outputs.includes(id)) x = x > 0 ? round(x / r) : round(x * r);
    const count = outputs.filter((output) => output === id).length;
    const penalty = round(round(round(s.frequencyPenalty) * count) + round(s.presencePenalty));
    return count > 0 ? round(x - penalty) : x;
  });
}

/** Ids that may be drawn, best first, ties by lower id. */
function ordered(logits: readonly number[]): number[] {
  return [...logits.keys()].filter((id) => logits[id] !== never).sort((a, b) => logits[b]! - logits[a]! || a - b);
}

/** Probability of every id, in float64. */
export function distribution(row: Row): number[] {
  const { temperature, topK, topP, minP } = row.sampler;
  const logits = adjusted(row);
  let kept = ordered(logits);
  const weight = (id: number) => Math.exp((logits[id]! - logits[kept[0]!]!) / temperature);
  const total = (ids: number[]) => ids.reduce((sum, id) => sum + weight(id), 0);
  if (topK > 0) kept = kept.slice(0, topK);
  const target = topP * total(kept);
  if (topP < 1) kept = kept.slice(0, kept.findIndex((_, i) => total(kept.slice(0, i + 1)) >= target) + 1);
  const best = Math.max(...kept.map(weight));
  kept = kept.filter((id) => weight(id) >= minP * best);
  const mass = total(kept);
  return logits.map((_, id) => (kept.includes(id) ? weight(id) / mass : 0));
}

const mask64 = (1n << 64n) - 1n;

function mix64(x: bigint): bigint {
  let y = ((x ^ (x >> 30n)) * 0xbf58476d1ce4e5b9n) & mask64;
  y = ((y ^ (y >> 27n)) * 0x94d049bb133111ebn) & mask64;
  return y ^ (y >> 31n);
}

/** The random number of a token: a function of seed, choice and position alone (three rounds of splitmix64's mixer). */
function uniform(seed: bigint, choice: number, position: number): number {
  const golden = 0x9e3779b97f4a7c15n;
  let x = mix64((seed + golden) & mask64);
  x = mix64((x + golden * (BigInt(choice) + 1n)) & mask64);
  x = mix64((x + golden * (BigInt(position) + 1n)) & mask64);
  return Number(x >> 11n) * 2 ** -53;
}

/**
 * The ids that an exact sampler may answer: one, or two where the random number is within rounding of a boundary. The
 * adjusted logits are those of f32 to the bit, as ties are decided by them.
 */
export function acceptable(row: Row): number[] {
  const { temperature, topK, topP, minP, seed, choice } = row.sampler;
  if (row.logits.some((x) => Number.isNaN(x) || x === Number.POSITIVE_INFINITY)) return [-1];
  if (row.logits.every((x) => x === never)) return [-1];
  const logits = adjusted(row, Math.fround);
  const order = ordered(logits);
  const best = order[0];
  if (best === undefined) return [-2];
  if (temperature === 0) return [best];
  const weights = new Map(order.map((id) => [id, Math.exp((logits[id]! - logits[best]!) / temperature)]));
  const weightOf = (ids: number[]) => ids.reduce((sum, id) => sum + weights.get(id)!, 0);
  let kept = topK > 0 ? order.slice(0, topK) : order;
  const cuts: number[][] = [];
  if (topP < 1) {
    // The first tokens that reach topP; rounding may end the list one token earlier or later.
    const total = weightOf(kept);
    for (const slack of [-1e-5, 0, 1e-5]) {
      let mass = 0;
      const end = kept.findIndex((id) => {
        mass += weights.get(id)!;
        return mass >= (topP + slack) * total;
      });
      cuts.push(end < 0 ? kept : kept.slice(0, end + 1));
    }
    kept = cuts[1]!;
  } else cuts.push(kept);
  const answers = new Set<number>();
  for (const cut of cuts) {
    for (const slack of [-1e-5, 0, 1e-5]) {
      const ids = cut.filter((id) => weights.get(id)! >= minP * (1 + slack)).sort((a, b) => a - b);
      const target = uniform(BigInt(seed), choice, row.position) * weightOf(ids);
      for (const shift of [-1e-5, 0, 1e-5]) {
        let mass = 0;
        const at = target + shift * weightOf(ids);
        const chosen = ids.find((id) => {
          mass += weights.get(id)!;
          return mass > at;
        });
        answers.add(chosen ?? ids.at(-1) ?? best);
      }
    }
  }
  return [...answers];
}

/** Bins of a chi-square test have at least this many expected draws, as Cochran's rule asks. */
const leastExpected = 5;

/**
 * Pearson's statistic over its critical value at a significance level of one in 10,000: above 1, the draws do not come
 * from the distribution. Infinite if one has probability 0. The critical value is Wilson and Hilferty's approximation:
 * 3.5% too high at three degrees of freedom, less at more.
 */
export function chiSquare(draws: readonly number[], probabilities: readonly number[]): number {
  const counts = new Array<number>(probabilities.length).fill(0);
  for (const id of draws) counts[id]!++;
  let [statistic, bins, rareCount, rareExpected] = [0, 0, 0, 0];
  const add = (count: number, expected: number) => {
    statistic += (count - expected) ** 2 / expected;
    bins++;
  };
  for (const [id, p] of probabilities.entries()) {
    if (p === 0 && counts[id]! > 0) return Number.POSITIVE_INFINITY;
    if (p * draws.length >= leastExpected) add(counts[id]!, p * draws.length);
    else {
      rareCount += counts[id]!;
      rareExpected += p * draws.length;
    }
  }
  if (rareExpected >= leastExpected) add(rareCount, rareExpected);
  const freedom = bins - 1;
  if (freedom < 3) throw new Error('a distribution of so few tokens proves little');
  const z = 3.719; // one in 10,000 of the normal distribution lies above
  const critical = freedom * (1 - 2 / (9 * freedom) + z * Math.sqrt(2 / (9 * freedom))) ** 3;
  return statistic / critical;
}

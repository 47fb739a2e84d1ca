// The tokens that `sample` draws come from the distribution that its options describe, and from no other: chi-square at
// fixed seeds, at a significance level of one in 10,000. Each case also shows that the test would notice: with any one
// option changed the same draws are refused.

import { expect, it } from 'vitest';
import { ops, SamplerTable } from '../../lib/kernels/index.ts';
import { chiSquare, distribution, plain, type Sampler } from './sampling-reference.ts';
import { describeLevels, Random, type Scope, withScope } from './support.ts';

const draws = 20_000;
const vocab = 37;
const logits = new Random(20).floats(vocab, 'f32', 2.5);
const best = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]!);

/** One token at each output position: the seed and the position are all that differs between the rows. */
function draw(s: Scope, sampler: Sampler): number[] {
  const samplers = s.own(new SamplerTable(s.device, 1, vocab));
  samplers.set(0, sampler);
  const ids = s.out([draws], 'i32');
  const rows = new Float32Array(draws * vocab);
  for (let i = 0; i < draws; i++) rows.set(logits, i * vocab);
  ops.sync.sample({
    logits: s.floats(rows, [draws, vocab]),
    samplers,
    slots: s.ints(new Int32Array(draws)),
    outputPositions: s.ints(Int32Array.from({ length: draws }, (_, i) => i)),
    ids,
  });
  return [...ids.toInt32Array()];
}

/** Tokens of all ranks, positive and negative ones, some of them more than once. */
const seen = {
  promptIds: [0, 1, 2, 3, 4, 5, 7, 8].map((rank) => best[rank]!),
  outputIds: [best[6], best[6], best[1], best[3], best[20], best[36]] as number[],
};
const bias = new Map([
  [best[0]!, -1.5],
  [best[10]!, 1.25],
  [best[2]!, Number.NEGATIVE_INFINITY],
]);

const cases: Record<string, Partial<Sampler>> = {
  'no option': {},
  temperature: { temperature: 0.7 },
  'a high temperature': { temperature: 2 },
  topK: { topK: 9 },
  topP: { topP: 0.8 },
  minP: { minP: 0.1 },
  'topK, topP and minP': { topK: 20, topP: 0.85, minP: 0.06 },
  'all filters, hot': { temperature: 1.6, topK: 25, topP: 0.9, minP: 0.05 },
  repetitionPenalty: { repetitionPenalty: 1.5, ...seen },
  presencePenalty: { presencePenalty: 0.8, ...seen },
  frequencyPenalty: { frequencyPenalty: 0.6, ...seen },
  'negative penalties': { presencePenalty: -0.4, frequencyPenalty: -0.3, ...seen },
  'all penalties': { repetitionPenalty: 1.3, presencePenalty: 0.4, frequencyPenalty: 0.3, ...seen },
  logitBias: { logitBias: bias },
  endIds: { minTokens: draws, endIds: [best[0]!, best[4]!] },
  everything: {
    temperature: 1.2,
    topK: 24,
    topP: 0.95,
    minP: 0.02,
    repetitionPenalty: 1.3,
    presencePenalty: 0.4,
    frequencyPenalty: 0.3,
    ...seen,
    logitBias: bias,
    minTokens: draws,
    endIds: [best[4]!],
  },
};

/**
 * Another value of each option. Filters become tighter: of several only the tightest shows. Not applied where the option
 * is off: off has a case of its own.
 */
const mutations: { [K in keyof Sampler]?: (value: Sampler[K]) => Sampler[K] } = {
  temperature: (t) => t * 1.3,
  topK: (k) => Math.floor(k / 2),
  topP: (p) => p * 0.7,
  minP: (p) => p * 8,
  repetitionPenalty: (r) => r * 1.2,
  presencePenalty: (p) => p + 0.25,
  frequencyPenalty: (f) => f + 0.2,
  logitBias: (map) => new Map([...map].map(([id, b]) => [id, b + 0.3])),
  endIds: (ids) => Array.from(ids).slice(1),
  promptIds: () => [],
  outputIds: (ids) => Array.from(ids).slice(2),
};

function mutants(sampler: Sampler): [string, Sampler][] {
  return Object.entries(mutations)
    .filter(([name]) => name === 'temperature' || matters(name as keyof Sampler, sampler))
    .map(([name, mutate]) => {
      const value = (mutate as (value: unknown) => unknown)(sampler[name as keyof Sampler]);
      return [name, { ...sampler, [name]: value }];
    });
}

function matters(name: keyof Sampler, sampler: Sampler): boolean {
  if (name === 'promptIds') return sampler.repetitionPenalty !== 1;
  return sampler[name] !== plain[name];
}

describeLevels('the distribution of sample', (device) => {
  it.each(Object.entries(cases))('is that of %s', (_, options) =>
    withScope(device, (s) => {
      const sampler = { ...plain, seed: 11n, ...options };
      const row = { logits, sampler, position: 0 };
      const ids = draw(s, sampler);
      expect(chiSquare(ids, distribution(row)), 'the statistic over its critical value').toBeLessThan(1);
      for (const [name, mutant] of mutants(sampler)) {
        const wrong = chiSquare(ids, distribution({ ...row, sampler: mutant }));
        expect(wrong, `the same with another ${name}`).toBeGreaterThan(1);
      }
    }),
  );

  it('does not depend on the seed, whose draws do', () =>
    withScope(device, (s) => {
      const samplers = [0n, 1n, (1n << 64n) - 1n].map((seed) => ({ ...plain, seed }));
      const all = [...samplers, { ...plain, choice: 1 }].map((sampler) => draw(s, sampler));
      for (const ids of all)
        expect(chiSquare(ids, distribution({ logits, sampler: plain, position: 0 }))).toBeLessThan(1);
      // Two streams agree as often as chance has it: within five standard deviations.
      const chance = distribution({ logits, sampler: plain, position: 0 }).reduce((sum, p) => sum + p * p, 0);
      for (const [i, a] of all.entries()) {
        for (const b of all.slice(i + 1)) {
          const agreed = a.filter((id, k) => id === b[k]).length;
          expect(Math.abs(agreed - chance * draws)).toBeLessThan(5 * Math.sqrt(draws * chance * (1 - chance)));
        }
      }
    }));
});

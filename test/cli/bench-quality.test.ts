// bench quality: its figures against hand-computed ones, and a run of the command.

import { describe, expect, it } from 'vitest';
import { agreementOf, emptyAgreement, mergeAgreement } from '../../lib/eval/agreement.ts';
import { swiftkv } from './run.ts';

const log = (...p: number[]) => p.map(Math.log);

describe('the agreement of two models', () => {
  // Two positions that predict ids 1 and 0, over a vocabulary of two; logits need no normalising.
  const ids = [0, 1, 0];
  const model = Float32Array.from([...log(0.5, 0.5), ...log(0.8, 0.2), 0, 0]);
  const reference = Float32Array.from([...log(0.25, 0.75), ...log(0.6, 0.4), 0, 0].map((x) => x + 3));

  it('is what the definitions say', () => {
    const result = agreementOf(model, reference, ids, 2);
    expect(result.tokens).toBe(2);
    expect(result.nll).toBeCloseTo(-(Math.log(0.5) + Math.log(0.8)) / 2, 6);
    const kl = [
      0.25 * Math.log(0.25 / 0.5) + 0.75 * Math.log(0.75 / 0.5),
      0.6 * Math.log(0.6 / 0.8) + 0.4 * Math.log(0.4 / 0.2),
    ];
    expect(result.kl).toBeCloseTo((kl[0]! + kl[1]!) / 2, 6);
    expect(result.agreement).toBe(0.5); // 0 of a tie against 1, then 0 and 0
  });

  it('with itself is complete', () => {
    const self = agreementOf(model, model, ids, 2);
    expect([self.agreement, self.kl]).toEqual([1, 0]);
  });

  it('of nothing is nothing, and windows are weighed by their tokens', () => {
    expect(agreementOf(new Float32Array(2), new Float32Array(2), [7], 2)).toEqual(emptyAgreement);
    const a = { tokens: 1, nll: 2, agreement: 0, kl: 4 };
    const b = { tokens: 3, nll: 6, agreement: 1, kl: 0 };
    expect(mergeAgreement(mergeAgreement(emptyAgreement, a), b)).toEqual({ tokens: 4, nll: 5, agreement: 0.75, kl: 1 });
  });
});

describe('bench quality', () => {
  it('compares variants of the embedded model with the first', async () => {
    const run = await swiftkv([
      ...['bench', 'quality', '--window', '64', '--windows', '1', '--threads', '1'],
      ...['--variants', 'plain,plain+weights=int8,plain+weights=int4', '--json', '-'],
    ]);
    expect(run.code).toBe(0);
    const { results, scoredTokens } = JSON.parse(run.stdout);
    expect(scoredTokens).toBe(63);
    const [plain, int8, int4] = results;
    expect(plain).toMatchObject({ variant: 'plain', agreement: 1, kl: 0, weights: ['bf16'] });
    expect(int8.kl).toBeGreaterThan(0);
    expect(int4.kl).toBeGreaterThan(int8.kl);
    expect(int4.weightBytes).toBeLessThan(int8.weightBytes);
  });

  it('refuses a model that no text means anything to', async () => {
    const run = await swiftkv(['bench', 'quality', 'random:embedded']);
    expect(run.code).toBe(1);
    expect(run.stderr).toContain('ERR_NO_TOKENIZER');
  });
});

// Perplexity against sums made by hand from the logits, and windows against what they promise.

import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Engine } from '../../lib/engine/engine.ts';
import { gather } from '../../lib/eval/in-order.ts';
import { perplexityOf, scoreWindows } from '../../lib/eval/perplexity.ts';
import { proportion, ratioOfSums } from '../../lib/eval/statistics.ts';
import { textWindows, windowsOf } from '../../lib/eval/windows.ts';
import { resolveModel } from '../../lib/model/embedded.ts';

describe('windows of a document', () => {
  it('count every token once: all but the first, or all but the first of each window where none overlap', () => {
    fc.assert(
      fc.property(fc.nat(60), fc.integer({ min: 2, max: 20 }), fc.nat(18), (length, window, less) => {
        const stride = Math.max(1, window - less);
        const ids = Array.from({ length }, (_, i) => i + 100);
        const windows = windowsOf(ids, window, stride);
        const counted = windows.flatMap(({ tokenIds, from }) => tokenIds.slice(from));
        const expected = ids.filter((_, i) => (stride === window ? i % window !== 0 : i !== 0));
        expect(counted).toEqual(expected);
        for (const { tokenIds, start, from } of windows) {
          expect(tokenIds).toEqual(ids.slice(start, start + window));
          expect(from).toBeGreaterThanOrEqual(1);
        }
      }),
    );
  });
});

describe('estimates', () => {
  it('a share and its error are those of the mean of zeros and ones', () => {
    const zerosAndOnes = [1, 0, 0, 1, 0, 0, 0, 1, 0, 0];
    const mean = 0.3;
    const variance = zerosAndOnes.reduce((sum, x) => sum + (x - mean) ** 2, 0) / 9;
    const { value, standardError } = proportion(3, 10);
    expect(value).toBe(mean);
    expect(standardError).toBeCloseTo(Math.sqrt(variance / 10), 12);
    expect(proportion(1, 1).standardError).toBeNaN();
  });

  it('a ratio of sums over clusters of one size is the mean of their means, with its error', () => {
    const means = [2, 3, 7, 4];
    const { value, standardError } = ratioOfSums(
      means.map((mean) => mean * 5),
      means.map(() => 5),
    );
    const variance = means.reduce((sum, x) => sum + (x - 4) ** 2, 0) / 3;
    expect(value).toBe(4);
    expect(standardError).toBeCloseTo(Math.sqrt(variance / 4), 12);
  });
});

describe('perplexity of a text', () => {
  let engine: Engine;
  const text =
    'The state of the Union is good.\nIt was better before.\n<|end_of_text|>\nAnother document, a short one.';

  beforeAll(async () => {
    engine = await Engine.load(resolveModel('embedded:swiftkv-50'));
  });
  afterAll(() => engine.dispose());

  it('is what its definition says, token by token, documents apart', async () => {
    const options = { window: 8, stride: 5 };
    const windows = await textWindows(engine, text, options);
    const { nats, tokens, perplexity } = perplexityOf(await gather(scoreWindows(engine, windows)));
    let [sum, count] = [0, 0];
    for (const document of text.split('\n<|end_of_text|>\n')) {
      const ids = await engine.tokenize(document);
      for (let i = 1; i < ids.length; i++) {
        // The first window that has token i and one before it.
        const start = i < options.window ? 0 : Math.ceil((i - options.window + 1) / options.stride) * options.stride;
        const context = ids.slice(start, i);
        const { data, vocabSize } = await engine.logits(context);
        const row = Array.from(data.subarray((context.length - 1) * vocabSize));
        const most = Math.max(...row);
        sum -= row[ids[i]!]! - most - Math.log(row.reduce((total, x) => total + Math.exp(x - most), 0));
        count++;
      }
    }
    expect(tokens).toBe(count);
    // Log-probabilities may be rounded to f32: about 1e-6 of values up to 20.
    expect(nats).toBeCloseTo(sum / count, 4);
    expect(perplexity).toBe(Math.exp(nats));
  });

  it('does not depend on how many windows are in flight: the same bits', async () => {
    const windows = await textWindows(engine, text, { window: 4, stride: 1 });
    const one = await gather(scoreWindows(engine, windows, { inFlight: 1 }));
    expect(windows.length).toBeGreaterThan(16);
    expect(await gather(scoreWindows(engine, windows, { inFlight: 16 }))).toEqual(one);
  });

  it('refuses a stride beyond the window', async () => {
    await expect(textWindows(engine, text, { window: 8, stride: 9 })).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    });
  });
});

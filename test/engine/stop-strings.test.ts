// Answers that a text ends, on a fake model whose tokens are the bytes of UTF-8: stop strings stretch over tokens, and
// characters do too.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { GenerateOptions } from '../../lib/engine/types.ts';
import { greedy } from '../../lib/sampling/options.ts';
import { fakeAnswer } from './fake-model.ts';
import { byteTokenizer, fakeEngine, prompt, until } from './harness.ts';

const vocabSize = 256;

/** An engine that answers a prompt with a text, byte by byte: the mask of each token allows the next byte only. */
function textEngine(options: Parameters<typeof fakeEngine>[0] = {}) {
  const { engine, runner } = fakeEngine({ vocabSize, tokenizer: byteTokenizer(), ...options });
  const answer = (text: string, request: GenerateOptions = {}) => {
    const bytes = new TextEncoder().encode(text);
    const tokenMask = (outputIds: Int32Array) => {
      const mask = new Uint32Array(vocabSize / 32);
      const byte = bytes[outputIds.length % bytes.length]!;
      mask[byte >>> 5] = 1 << (byte & 31);
      return mask;
    };
    return engine.generate({ tokenIds: prompt(10), maxTokens: bytes.length, tokenMask, ...request });
  };
  return { engine, runner, answer };
}

const byteLength = (text: string) => new TextEncoder().encode(text).length;

describe('a stop string', () => {
  it('ends the answer before it, or after it with includeStop, and says which it was', async () => {
    const { engine, answer } = textEngine();
    const text = 'one two three four';
    const before = await answer(text, { stop: ['four', 'three'] }).result();
    expect(before).toMatchObject({ text: 'one two ', finishReason: 'stop', stopReason: 'three' });
    expect(before.usage.completionTokens).toBe('one two three'.length);
    expect(before.tokenIds).toHaveLength('one two three'.length);
    const after = await answer(text, { stop: 'three', includeStop: true }).result();
    expect(after).toMatchObject({ text: 'one two three', finishReason: 'stop', stopReason: 'three' });
    await engine.dispose();
  });

  it('is found where characters of several bytes begin and end inside tokens', async () => {
    const { engine, answer } = textEngine();
    const text = 'préface 日本語 🙂🙃 fin';
    for (const [stop, left] of [
      ['é', 'pr'],
      ['本', 'préface 日'],
      ['🙃', 'préface 日本語 🙂'],
      ['語 🙂', 'préface 日本'],
    ] as const) {
      const result = await answer(text, { stop }).result();
      expect(result).toMatchObject({ text: left, finishReason: 'stop', stopReason: stop });
      expect(result.tokenIds).toHaveLength(byteLength(left + stop));
    }
    // Bytes of one character are no other character: U+65E5 begins as U+65E6 does.
    expect(await answer('日日', { stop: '旦' }).result()).toMatchObject({ text: '日日', finishReason: 'length' });
    await engine.dispose();
  });

  it('is never streamed, nor is its beginning before it is certain that it is none', async () => {
    const { engine, answer } = textEngine();
    const seen: string[] = [];
    for await (const part of answer('abcabcabd!', { stop: 'abcabd' })) {
      if (part.type === 'text') seen.push(part.text);
      else expect(part).toMatchObject({ finishReason: 'stop', stopReason: 'abcabd' });
    }
    expect(seen.join('')).toBe('abc');
    await engine.dispose();
  });

  it('that only begins at the end of the answer is part of it', async () => {
    const { engine, answer } = textEngine();
    expect(await answer('abcab', { stop: 'abd' }).result()).toMatchObject({ text: 'abcab', finishReason: 'length' });
    await engine.dispose();
  });

  it('that the last token completes beats the length', async () => {
    const { engine, answer } = textEngine();
    expect(await answer('abcd', { stop: 'cd' }).result()).toMatchObject({ text: 'ab', finishReason: 'stop' });
    await engine.dispose();
  });

  it('is not looked for in the first minTokens tokens', async () => {
    const { engine, answer } = textEngine();
    const text = 'ab ab ab';
    for (const [minTokens, left] of [
      [0, ''],
      [1, 'ab '],
      [2, 'ab '],
      [3, 'ab '],
      [4, 'ab ab '],
    ] as const) {
      expect(await answer(text, { stop: 'ab', minTokens }).result()).toMatchObject({ text: left, stopReason: 'ab' });
    }
    await engine.dispose();
  });

  it('frees its blocks and its place with nobody reading', async () => {
    const { engine, runner, answer } = textEngine({ maxSeqs: 1 });
    const stream = answer(`${'x'.repeat(20)}stop${'y'.repeat(200)}`, { stop: 'stop' })[Symbol.asyncIterator]();
    await stream.next();
    await until(() => engine.info().load.running === 0);
    await until(() => engine.info().load.freeBlocks === 64);
    expect(runner.steps).toBeLessThan(30);
    expect(await answer('next').result()).toMatchObject({ text: 'next' });
    await stream.return!();
    await engine.dispose();
  });

  it('does not disturb others of the batch, whatever steps they share', async () => {
    const { engine, answer } = textEngine();
    const other = engine.generate({ tokenIds: prompt(30, 5), maxTokens: 40 }).result();
    const stopped = await Promise.all([5, 9, 13].map((n) => answer(`${'z'.repeat(n)}.rest`, { stop: '.' }).result()));
    expect(stopped.map((one) => one.text.length)).toEqual([5, 9, 13]);
    expect((await other).tokenIds).toEqual(fakeAnswer(prompt(30, 5), { maxTokens: 40, vocabSize }));
    await engine.dispose();
  });

  it('gives what a search in the whole text gives', async () => {
    const { engine, answer } = textEngine();
    const letters = fc.array(fc.constantFrom('a', 'é', '語', '🙂'), { minLength: 1, maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(
        letters,
        fc.array(
          letters.map((l) => l.slice(0, 3).join('')),
          { maxLength: 3 },
        ),
        async (all, stop) => {
          const text = all.join('');
          const ends = stop.filter((s) => text.includes(s)).map((s) => ({ s, end: text.indexOf(s) + s.length }));
          ends.sort((a, b) => a.end - b.end || b.s.length - a.s.length);
          const first = ends[0];
          const result = await answer(text, { stop }).result();
          expect(result.text).toBe(first === undefined ? text : text.slice(0, first.end - first.s.length));
          expect(result.stopReason).toBe(first?.s ?? null);
        },
      ),
      { numRuns: 200 },
    );
    await engine.dispose();
  });

  it('needs a tokenizer', async () => {
    const { engine } = fakeEngine();
    const result = engine.generate({ tokenIds: prompt(5), stop: 'x' }).result();
    await expect(result).rejects.toMatchObject({ code: 'ERR_NO_TOKENIZER' });
    await engine.dispose();
  });
});

describe('a stop token', () => {
  it('ends the answer, is reported, and has no text', async () => {
    const { engine, answer } = textEngine();
    const result = await answer('abcd', { stopTokenIds: ['c'.charCodeAt(0)] }).result();
    expect(result).toMatchObject({ text: 'ab', tokenIds: [97, 98, 99], finishReason: 'stop', stopReason: 99 });
    await engine.dispose();
  });

  it('is not chosen before minTokens', async () => {
    const tokenIds = prompt(12);
    const free = fakeAnswer(tokenIds, { maxTokens: 30, vocabSize });
    const stopTokenIds = [free[2]!, free[5]!];
    const { engine } = fakeEngine({ vocabSize });
    for (const minTokens of [0, 2, 3, 6, 20]) {
      const sampler = { ...greedy, minTokens, endIds: Int32Array.from(stopTokenIds) };
      const expected = fakeAnswer(tokenIds, { maxTokens: 30, vocabSize, sampler, stopIds: new Set(stopTokenIds) });
      const result = await engine.generate({ tokenIds, maxTokens: 30, minTokens, stopTokenIds }).result();
      expect(result.tokenIds).toEqual(expected);
      expect(result.tokenIds.length).toBeGreaterThan(minTokens);
    }
    await engine.dispose();
  });
});

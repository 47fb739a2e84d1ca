// The public face of a generation on a fake model: laziness, streams, limits and what is reported.

import { describe, expect, it } from 'vitest';
import type { GeneratePart } from '../../lib/engine/types.ts';
import { fakeAnswer, fakeLogits } from './fake-model.ts';
import { byteTokenizer, fakeEngine, prompt, turn } from './harness.ts';

const vocabSize = 97;

async function collect(parts: AsyncIterable<GeneratePart>): Promise<GeneratePart[]> {
  const all: GeneratePart[] = [];
  for await (const part of parts) all.push(part);
  return all;
}

describe('generate', () => {
  it('gives the answer that the model gives alone', async () => {
    const { engine } = fakeEngine();
    const tokenIds = prompt(100);
    const result = await engine.generate({ tokenIds, maxTokens: 20 }).result();
    expect(result.tokenIds).toEqual(fakeAnswer(tokenIds, { maxTokens: 20, vocabSize }));
    expect(result).toMatchObject({ text: '', finishReason: 'length' });
    await engine.dispose();
  });

  it('streams the same tokens as the result holds, ending in a finish part', async () => {
    const { engine } = fakeEngine();
    const tokenIds = prompt(40);
    const parts = await collect(engine.generate({ tokenIds, maxTokens: 9 }));
    const finish = parts.pop();
    expect(finish).toMatchObject({ type: 'finish', finishReason: 'length', usage: { completionTokens: 9 } });
    const ids = parts.flatMap((part) => (part.type === 'text' ? part.tokenIds : []));
    expect(ids).toEqual(fakeAnswer(tokenIds, { maxTokens: 9, vocabSize }));
    expect(parts.length).toBeGreaterThan(4);
    await engine.dispose();
  });

  it('starts nothing before it is consumed, and an unconsumed one rejects nothing', async () => {
    const { engine, runner } = fakeEngine();
    engine.generate({ tokenIds: prompt(10) });
    engine.generate({ tokenIds: prompt(10), maxTokens: -1 });
    engine.generate({ tokenIds: prompt(10) })[Symbol.asyncIterator]();
    await turn();
    await turn();
    expect(runner.steps).toBe(0);
    await engine.dispose();
  });

  it('refuses a second reader, whichever way the first one read', async () => {
    const { engine } = fakeEngine();
    const generation = engine.generate({ tokenIds: prompt(10), maxTokens: 2 });
    await generation.result();
    await expect(generation.result()).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
    expect(() => generation[Symbol.asyncIterator]()).toThrow(/consumed once/);
    const streamed = engine.generate({ tokenIds: prompt(10), maxTokens: 2 });
    await collect(streamed);
    await expect(streamed.result()).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
    await engine.dispose();
  });

  it('counts row-layers: prompt rows skip the later layers, fullDepth rows do not', async () => {
    const { engine } = fakeEngine();
    const request = { tokenIds: prompt(50), maxTokens: 5 };
    const early = await engine.generate(request).result();
    const full = await engine.generate({ ...request, fullDepth: true }).result();
    // L = 6, n = 2: 50 prompt rows and 4 fed-back answers, of which 1 + 4 survive.
    expect(early.usage.rowLayersRun).toBe(54 * 2 + 5 * 4);
    expect(early.usage.rowLayersSkipped).toBe(49 * 4);
    expect(full.usage.rowLayersRun).toBe(54 * 6);
    expect(full.usage.rowLayersSkipped).toBe(0);
    expect(full.tokenIds).toEqual(early.tokenIds);
    await engine.dispose();
  });

  it('stops at the end-of-sequence token, or goes on with ignoreEos', async () => {
    const tokenIds = prompt(12);
    const free = fakeAnswer(tokenIds, { maxTokens: 30, vocabSize });
    const eos = free[6]!;
    const { engine } = fakeEngine({ eosTokenIds: [eos] });
    const stopped = await engine.generate({ tokenIds, maxTokens: 30 }).result();
    expect(stopped.finishReason).toBe('stop');
    expect(stopped.tokenIds).toEqual(free.slice(0, free.indexOf(eos) + 1));
    const on = await engine.generate({ tokenIds, maxTokens: 30, ignoreEos: true }).result();
    expect(on.tokenIds).toEqual(free);
    const own = free[3]!;
    const both = await engine.generate({ tokenIds, maxTokens: 30, ignoreEos: true, stopTokenIds: [own] }).result();
    expect(both.tokenIds).toEqual(free.slice(0, free.indexOf(own) + 1));
    await engine.dispose();
  });

  it('reports a drawn seed that gives the same answer again, in any company', async () => {
    const { engine } = fakeEngine();
    const request = { tokenIds: prompt(30), maxTokens: 12, temperature: 1 };
    const first = await engine.generate(request).result();
    const others = [1, 2, 3].map((seed) => engine.generate({ ...request, seed }).result());
    const again = await engine.generate({ ...request, seed: first.seed }).result();
    expect(again.tokenIds).toEqual(first.tokenIds);
    expect(new Set((await Promise.all(others)).map((r) => r.tokenIds.join())).size).toBe(3);
    await engine.dispose();
  });

  it('measures times that add up', async () => {
    const { engine } = fakeEngine();
    const { timings } = await engine.generate({ tokenIds: prompt(100), maxTokens: 10 }).result();
    expect(timings.queueMs).toBeGreaterThanOrEqual(0);
    expect(timings.ttftMs).toBeGreaterThanOrEqual(timings.queueMs);
    expect(timings.totalMs).toBeCloseTo(timings.ttftMs + 9 * timings.tpotMs!, 6);
    expect(timings.decodeTokensPerSecond).toBeCloseTo(1000 / timings.tpotMs!, 6);
    const single = await engine.generate({ tokenIds: prompt(5), maxTokens: 1 }).result();
    expect(single.timings).toMatchObject({ tpotMs: null, decodeTokensPerSecond: null });
    await engine.dispose();
  });

  it('hands a slow reader everything it missed at once, and never holds up others', async () => {
    const { engine, runner } = fakeEngine();
    const tokenIds = prompt(20);
    const slow = engine.generate({ tokenIds, maxTokens: 40 })[Symbol.asyncIterator]();
    const first = await slow.next();
    await engine.generate({ tokenIds: prompt(20, 1), maxTokens: 60 }).result();
    expect(runner.busy).toBe(false);
    const rest = await slow.next();
    expect(rest.value).toMatchObject({ type: 'text' });
    const ids = [first, rest].flatMap((r) => (r.value?.type === 'text' ? r.value.tokenIds : []));
    expect(ids).toEqual(fakeAnswer(tokenIds, { maxTokens: 40, vocabSize }));
    expect((await slow.next()).value).toMatchObject({ type: 'finish' });
    expect(await slow.next()).toEqual({ done: true, value: undefined });
    await engine.dispose();
  });

  it('answers calls of next in order, even when nobody waits for them', async () => {
    const { engine } = fakeEngine();
    const iterator = engine.generate({ tokenIds: prompt(8), maxTokens: 4 })[Symbol.asyncIterator]();
    const results = await Promise.all(Array.from({ length: 8 }, () => iterator.next()));
    const kinds = results.map((r) => (r.done ? 'done' : r.value.type)).join(' ');
    expect(kinds).toMatch(/^(text )+finish( done)+$/);
    await engine.dispose();
  });

  it('fills the room that the context or the cache leaves when maxTokens is not given', async () => {
    const context = fakeEngine({ maxModelLen: 64 });
    expect((await context.engine.generate({ tokenIds: prompt(10) }).result()).tokenIds.length).toBe(54);
    const cache = fakeEngine({ maxModelLen: 512, numBlocks: 3 });
    expect((await cache.engine.generate({ tokenIds: prompt(10) }).result()).tokenIds.length).toBe(39);
    await Promise.all([context.engine.dispose(), cache.engine.dispose()]);
  });

  it('refuses what can never fit, and goes on', async () => {
    const { engine, runner } = fakeEngine({ maxModelLen: 128, numBlocks: 4 });
    const long = engine.generate({ tokenIds: prompt(100), maxTokens: 29 }).result();
    await expect(long).rejects.toMatchObject({
      code: 'ERR_CONTEXT_LENGTH',
      message: expect.stringMatching('128.*100.*29'),
    });
    const whole = engine.generate({ tokenIds: prompt(128) }).result();
    await expect(whole).rejects.toMatchObject({ code: 'ERR_CONTEXT_LENGTH' });
    const wide = engine.generate({ tokenIds: prompt(60), maxTokens: 6 }).result();
    await expect(wide).rejects.toMatchObject({ code: 'ERR_CACHE_TOO_SMALL', message: expect.stringMatching('64.*65') });
    expect(runner.steps).toBe(0);
    expect((await engine.generate({ tokenIds: prompt(60), maxTokens: 5 }).result()).tokenIds.length).toBe(5);
    await engine.dispose();
  });

  it('fails only the request whose logits are NaN', async () => {
    const { engine } = fakeEngine({ nanToken: 96 });
    const good = prompt(30, 3).map((id) => id % 96);
    const bad = [...good.slice(0, 20), 96, 5];
    const [failed, fine] = await Promise.allSettled([
      engine.generate({ tokenIds: bad, maxTokens: 8 }).result(),
      engine.generate({ tokenIds: good, maxTokens: 8 }).result(),
    ]);
    expect(failed).toMatchObject({ status: 'rejected', reason: { code: 'ERR_NUMERIC' } });
    expect(fine).toMatchObject({ status: 'fulfilled' });
    await expect(engine.logits(bad)).rejects.toMatchObject({ code: 'ERR_NUMERIC' });
    expect(engine.info().load).toMatchObject({ running: 0, waiting: 0, freeBlocks: 64 });
    await engine.dispose();
  });

  it('fails only the request whose sampler finds no memory', async () => {
    const { engine } = fakeEngine({ memorylessSeed: 666n });
    const request = (salt: number, seed: number) => ({ tokenIds: prompt(20, salt), maxTokens: 6, seed });
    const results = await Promise.allSettled(
      [1, 666, 2].map((seed, salt) => engine.generate(request(salt, seed)).result()),
    );
    expect(results[1]).toMatchObject({ status: 'rejected', reason: { code: 'ERR_OUT_OF_MEMORY' } });
    for (const salt of [0, 2]) {
      const tokenIds = fakeAnswer(prompt(20, salt), { maxTokens: 6, vocabSize });
      expect(results[salt]).toMatchObject({ status: 'fulfilled', value: { tokenIds } });
    }
    expect(engine.info().load).toMatchObject({ running: 0, freeBlocks: 64 });
    const alone = engine.generate(request(1, 666)).result();
    await expect(alone).rejects.toMatchObject({ code: 'ERR_OUT_OF_MEMORY' });
    expect((await engine.generate(request(0, 1)).result()).tokenIds).toHaveLength(6);
    await engine.dispose();
  });

  it('rejects the requests of a step that fails, keeps the code, and stays usable', async () => {
    const { engine, runner } = fakeEngine({ maxSeqs: 2 });
    runner.nextError = Object.assign(new Error('no memory'), { code: 'ERR_OUT_OF_MEMORY' });
    const results = await Promise.allSettled(
      [1, 2, 3].map((salt) => engine.generate({ tokenIds: prompt(20, salt), maxTokens: 3 }).result()),
    );
    expect(results.map((r) => r.status)).toEqual(['rejected', 'rejected', 'fulfilled']);
    expect(results[0]).toMatchObject({ reason: { code: 'ERR_OUT_OF_MEMORY', message: 'no memory' } });
    expect(engine.info().load.freeBlocks).toBe(64);
    await engine.dispose();
  });
});

describe('text', () => {
  // The byte tokenizer's ids are bytes, so answers are random bytes.
  const wide = { vocabSize: 256, tokenizer: byteTokenizer() };

  it('streams the same text as the result holds, never half a character', async () => {
    const { engine } = fakeEngine(wide);
    const request = { prompt: 'the quick brown föx', maxTokens: 60 };
    const { text, tokenIds } = await engine.generate(request).result();
    const parts = await collect(engine.generate(request));
    expect(parts.map((p) => (p.type === 'text' ? p.text : '')).join('')).toBe(text);
    expect(parts.flatMap((p) => (p.type === 'text' ? p.tokenIds : []))).toEqual(tokenIds);
    expect(text).toBe(new TextDecoder('utf-8', { ignoreBOM: true }).decode(Uint8Array.from(tokenIds)));
    await engine.dispose();
  });

  it('leaves the stop token out of the text and in the ids', async () => {
    const free = fakeEngine(wide);
    const request = { prompt: 'hello', maxTokens: 20 };
    const { tokenIds } = await free.engine.generate(request).result();
    const stop = tokenIds[5]!;
    const { text, tokenIds: ids } = await free.engine.generate({ ...request, stopTokenIds: [stop] }).result();
    expect(ids.at(-1)).toBe(stop);
    expect(text).toBe(new TextDecoder('utf-8', { ignoreBOM: true }).decode(Uint8Array.from(ids.slice(0, -1))));
    await free.engine.dispose();
  });

  it('renders conversations and tokenizes', async () => {
    const { engine } = fakeEngine(wide);
    const chat = await engine.generate({ messages: [{ role: 'user', content: 'hi' }], maxTokens: 4 }).result();
    const text = await engine.generate({ prompt: '<user>hi', maxTokens: 4 }).result();
    expect(chat.tokenIds).toEqual(text.tokenIds);
    expect(await engine.tokenize('abc')).toEqual([97, 98, 99]);
    expect(await engine.detokenize([97, 98, 99])).toBe('abc');
    await engine.dispose();
  });

  it('says whose fault it is when the tokenizer knows more tokens than the model', async () => {
    const { engine } = fakeEngine({ tokenizer: byteTokenizer() });
    await expect(engine.generate({ prompt: 'z' }).result()).rejects.toMatchObject({
      code: 'ERR_MODEL_INVALID',
      message: expect.stringMatching(/below 97 .*gave 122: tokenizer\.json belongs to another model/),
    });
    await engine.dispose();
  });

  it('refuses text without a tokenizer, and an endless text before it is tokenized', async () => {
    const { engine } = fakeEngine();
    for (const work of [
      engine.generate({ prompt: 'x' }).result(),
      engine.generate({ messages: [{ role: 'user', content: 'x' }] }).result(),
      engine.tokenize('x'),
      engine.detokenize([1]),
    ]) {
      await expect(work).rejects.toMatchObject({ code: 'ERR_NO_TOKENIZER' });
    }
    const texts = fakeEngine(wide);
    const endless = texts.engine.generate({ prompt: 'x'.repeat(10_000) }).result();
    await expect(endless).rejects.toMatchObject({ code: 'ERR_CONTEXT_LENGTH' });
    await expect(texts.engine.generate({ prompt: '' }).result()).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
    });
    await Promise.all([engine.dispose(), texts.engine.dispose()]);
  });
});

describe('logits', () => {
  it('gives every position, alone and among running answers', async () => {
    const { engine } = fakeEngine();
    const texts = [1, 15, 16, 17, 33, 100].map((length) => prompt(length, length));
    const answers = [1, 2].map((salt) => engine.generate({ tokenIds: prompt(40, salt), maxTokens: 50 }).result());
    const scored = await Promise.all(texts.map((ids) => engine.logits(ids)));
    scored.forEach(({ rows, vocabSize: width, data }, i) => {
      expect([rows, width]).toEqual([texts[i]!.length, vocabSize]);
      expect(data).toEqual(fakeLogits(texts[i]!, vocabSize));
    });
    for (const [i, answer] of answers.entries()) {
      expect((await answer).tokenIds).toEqual(fakeAnswer(prompt(40, i + 1), { maxTokens: 50, vocabSize }));
    }
    await engine.dispose();
  });

  it('refuses more positions than stated, with the number', async () => {
    const { engine } = fakeEngine();
    expect(engine.info().maxLogitPositions).toBe(512);
    await expect(engine.logits(prompt(513))).rejects.toThrow(/1 to 512 .*received 513 \(logits\)/);
    await expect(engine.logits([])).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
    await engine.dispose();
  });
});

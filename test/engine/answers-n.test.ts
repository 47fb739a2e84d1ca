// Several answers to one prompt: which is which, what they share, how they end, and that one bill is right for all.

import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { Engine } from '../../lib/engine/engine.ts';
import type { FinishPart, GenerateOptions, GeneratePart, GenerateResult } from '../../lib/engine/types.ts';
import { greedy, samplingDefaults } from '../../lib/sampling/options.ts';
import { fakeAnswer } from './fake-model.ts';
import { byteTokenizer, fakeEngine, prompt, turn, until } from './harness.ts';
import { recordingModel } from './recording-model.ts';

const vocabSize = 97;
const warm = { temperature: 1, seed: 5 };

/** What answer `choice` of a request with `warm` is, without any engine. */
function answerAlone(tokenIds: number[], maxTokens: number, choice: number): number[] {
  return fakeAnswer(tokenIds, { maxTokens, vocabSize, sampler: { ...greedy, temperature: 1, seed: 5n, choice } });
}

const idsOf = (results: GenerateResult[]) => results.map((result) => result.tokenIds);

/** What a stream holds for each of n answers; checks that nothing of an answer comes after its finish part. */
async function collect(parts: AsyncIterable<GeneratePart>, n: number) {
  const answers = Array.from({ length: n }, () => ({
    text: '',
    tokenIds: [] as number[],
    finish: null as FinishPart | null,
  }));
  for await (const part of parts) {
    const answer = answers[part.index]!;
    expect(answer.finish).toBeNull();
    if (part.type === 'finish') answer.finish = part;
    else {
      answer.text += part.text;
      answer.tokenIds.push(...part.tokenIds);
    }
  }
  return answers;
}

describe('n answers', () => {
  it.each([1, 2, 3, 8, 64])('of a request for %i are each what their number in the random numbers gives', async (n) => {
    const { engine } = fakeEngine();
    for (const length of [1, 15, 16, 17, 37]) {
      const tokenIds = prompt(length, length);
      const results = await engine.generate({ tokenIds, maxTokens: 7, n, ...warm }).results();
      expect(idsOf(results)).toEqual(Array.from({ length: n }, (_, i) => answerAlone(tokenIds, 7, i)));
      expect(results.map(({ index }) => index)).toEqual(Array.from({ length: n }, (_, i) => i));
      expect(new Set(results.map(({ seed }) => seed))).toEqual(new Set([5]));
    }
    expect(engine.info().load).toMatchObject({ running: 0, waiting: 0, freeBlocks: 64 });
    await engine.dispose();
  });

  it('begin with the one that n = 1 gives, log-probabilities included', async () => {
    const { engine } = fakeEngine();
    const request = { tokenIds: prompt(37), maxTokens: 9, logprobs: 2, ...warm };
    const one = await engine.generate(request).result();
    const several = await engine.generate({ ...request, n: 5 }).results();
    expect([several[0]!.tokenIds, several[0]!.logprobs]).toEqual([one.tokenIds, one.logprobs]);
    for (const { tokenIds, logprobs } of several) expect(logprobs!.map((l) => l.tokenId)).toEqual(tokenIds);
    expect(new Set(several.map(({ tokenIds }) => tokenIds.join())).size).toBe(5);
    await engine.dispose();
  });

  it('are all the same where nothing is random', async () => {
    const { engine } = fakeEngine();
    const tokenIds = prompt(20);
    const results = await engine.generate({ tokenIds, maxTokens: 6, n: 4 }).results();
    for (const ids of idsOf(results)) expect(ids).toEqual(fakeAnswer(tokenIds, { maxTokens: 6, vocabSize }));
    await engine.dispose();
  });

  it('stream as parts that say whose they are, one finish part each, and then nothing', async () => {
    const { engine } = fakeEngine({ tokenizer: byteTokenizer(), vocabSize: 128, maxSeqs: 3 });
    const request = { tokenIds: prompt(21, 1, 128), maxTokens: 12, n: 5, ...warm };
    const results = await engine.generate(request).results();
    const generation = engine.generate(request)[Symbol.asyncIterator]();
    const answers = await collect({ [Symbol.asyncIterator]: () => generation }, 5);
    expect(await generation.next()).toEqual({ done: true, value: undefined });
    for (const [i, { text, tokenIds, finish }] of answers.entries()) {
      expect({ text, tokenIds }).toEqual({ text: results[i]!.text, tokenIds: results[i]!.tokenIds });
      expect(finish).toMatchObject({ index: i, finishReason: 'length', seed: 5, usage: { completionTokens: 12 } });
    }
    await engine.dispose();
  });

  it('end each at its own stop, and the others go on', async () => {
    const tokenIds = prompt(18, 4);
    const alone = [0, 1, 2].map((choice) => answerAlone(tokenIds, 30, choice));
    // A token that only the second answer has, in its middle.
    const stop = alone[1]!.slice(5).find((id) => !alone[0]!.includes(id) && !alone[2]!.includes(id))!;
    const { engine } = fakeEngine();
    const results = await engine.generate({ tokenIds, maxTokens: 30, n: 3, stopTokenIds: [stop], ...warm }).results();
    expect(results.map((r) => r.finishReason)).toEqual(['length', 'stop', 'length']);
    expect(results[1]).toMatchObject({ stopReason: stop });
    expect(idsOf(results)).toEqual([alone[0], alone[1]!.slice(0, alone[1]!.indexOf(stop) + 1), alone[2]]);
    await engine.dispose();
  });

  it('have each a search for stop strings of their own', async () => {
    const vocabSize = 128;
    const { engine } = fakeEngine({ tokenizer: byteTokenizer(), vocabSize });
    // Each answer is told apart by the tokens that its mask has let through.
    const texts = ['abcabd', 'xyabc!', 'ab-abd'];
    const tokenMask = (outputIds: Int32Array) => {
      const sofar = String.fromCharCode(...outputIds);
      const mask = new Uint32Array(vocabSize / 32);
      for (const text of texts) {
        if (!text.startsWith(sofar)) continue;
        const next = text.charCodeAt(sofar.length);
        mask[next >>> 5]! |= 1 << (next & 31);
      }
      return mask;
    };
    const request: GenerateOptions = { tokenIds: prompt(9), maxTokens: 6, n: 16, stop: ['abd'], tokenMask, ...warm };
    const results = await engine.generate(request).results();
    expect(new Set(results.map(({ text }) => text))).toEqual(new Set(['abc', 'xyabc!', 'ab-']));
    for (const { text, finishReason, stopReason } of results) {
      expect([finishReason, stopReason]).toEqual(text === 'xyabc!' ? ['length', null] : ['stop', 'abd']);
    }
    const streamed = await collect(engine.generate(request), 16);
    expect(streamed.map(({ text }) => text)).toEqual(results.map(({ text }) => text));
    expect(engine.info().load).toMatchObject({ running: 0, waiting: 0, freeBlocks: 64 });
    await engine.dispose();
  });
});

describe('result', () => {
  it('is for one answer: it sends a request for more to results, which can still be asked', async () => {
    const { engine, runner } = fakeEngine();
    const generation = engine.generate({ tokenIds: prompt(5), maxTokens: 2, n: 2 });
    await expect(generation.result()).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(/results\(\)/),
    });
    expect(runner.steps).toBe(0);
    expect(await generation.results()).toHaveLength(2);
    await expect(generation.results()).rejects.toThrow(/consumed once/);
    expect(await engine.generate({ tokenIds: prompt(5), maxTokens: 2 }).results()).toHaveLength(1);
    await engine.dispose();
  });

  it.each([[{ n: 0 }], [{ n: 65 }], [{ n: 1.5 }], [{ n: 2, maxTokens: 0, promptLogprobs: 0 }]])(
    'refuses %o',
    async (more) => {
      const { engine } = fakeEngine();
      const results = engine.generate({ tokenIds: prompt(5), maxTokens: 1, ...more }).results();
      await expect(results).rejects.toMatchObject({
        code: 'ERR_INVALID_ARGUMENT',
        message: expect.stringMatching(/\bn\b/),
      });
      await engine.dispose();
    },
  );
});

describe('what answers share', () => {
  it.each([true, false])('is the prompt: it is computed once (prefixCaching %s)', async (prefixCaching) => {
    for (const maxSeqs of [1, 2, 8]) {
      const { engine, runner } = fakeEngine({ prefixCaching, maxSeqs });
      const results = await engine.generate({ tokenIds: prompt(50), maxTokens: 4, n: 8, ...warm }).results();
      expect(results[0]!.usage.cachedTokens).toBe(0);
      // By a fork all but the last token; where the first has ended before, the full blocks that it left.
      for (const { usage } of results.slice(1)) expect([48, 49]).toContain(usage.cachedTokens);
      if (maxSeqs === 8) expect(results.slice(1).every(({ usage }) => usage.cachedTokens === 49)).toBe(true);
      // The last token of each answer is never fed.
      const computed = results.reduce((sum, { usage }) => sum + usage.promptTokens - usage.cachedTokens + 3, 0);
      expect(runner.rowsRun).toBe(computed);
      await engine.dispose();
    }
  });

  it('is not shared with the next request when prefixCaching is off', async () => {
    const { engine } = fakeEngine({ prefixCaching: false });
    for (let i = 0; i < 2; i++) {
      const results = await engine.generate({ tokenIds: prompt(50), maxTokens: 4, n: 2, ...warm }).results();
      expect(results.map(({ usage }) => usage.cachedTokens)).toEqual([0, 49]);
    }
    expect((await engine.generate({ tokenIds: prompt(50), maxTokens: 4 }).result()).usage.cachedTokens).toBe(0);
    await engine.dispose();
  });

  it('is a bill that adds up to what was run', async () => {
    const { engine, runner } = fakeEngine({ maxSeqs: 3 });
    let ran = 0;
    const { run } = runner;
    runner.run = async (batch) => {
      const result = await run.call(runner, batch);
      for (const rows of batch.layerRows) ran += rows;
      return result;
    };
    const results = await engine.generate({ tokenIds: prompt(40), maxTokens: 9, n: 7, ...warm }).results();
    const sum = (of: (r: GenerateResult) => number) => results.reduce((total, r) => total + of(r), 0);
    expect(sum(({ usage }) => usage.rowLayersRun)).toBe(ran);
    expect(sum(({ usage }) => usage.rowLayersRun + usage.rowLayersSkipped)).toBe(6 * runner.rowsRun);
    expect(sum(({ usage }) => usage.completionTokens)).toBe(63);
    await engine.dispose();
  });

  it('is the score of the prompt, made once and reported with each', async () => {
    const { engine, runner } = fakeEngine();
    const request = { tokenIds: prompt(33), maxTokens: 3, promptLogprobs: 2, ...warm };
    const alone = await engine.generate(request).result();
    const before = runner.rowsRun;
    const results = await engine.generate({ ...request, n: 4 }).results();
    for (const { promptLogprobs } of results) expect(promptLogprobs).toEqual(alone.promptLogprobs);
    expect(results[0]!.tokenIds).toEqual(alone.tokenIds);
    // 33 rows of the prompt once and two of the answer; the others feed the last of the prompt again.
    expect(runner.rowsRun - before).toBe(33 + 2 + 3 * (1 + 2));
    await engine.dispose();
  });

  it('is little where the cache is tiny: they take turns, and no answer changes', async () => {
    const tokenIds = prompt(30);
    for (const numBlocks of [4, 5, 6, 9]) {
      const { engine } = fakeEngine({ numBlocks, prefixCaching: true });
      const results = await engine.generate({ tokenIds, maxTokens: 34, n: 6, ...warm }).results();
      expect(idsOf(results)).toEqual(Array.from({ length: 6 }, (_, i) => answerAlone(tokenIds, 34, i)));
      expect(engine.info().load).toMatchObject({ running: 0, waiting: 0, freeBlocks: numBlocks });
      await engine.dispose();
    }
  });
});

describe('when one answer cannot go on, the request fails, and everything is freed', () => {
  const after = { running: 0, waiting: 0, freeBlocks: 64 };

  it('by NaN logits', async () => {
    const tokenIds = prompt(18, 4);
    const alone = [0, 1, 2].map((choice) => answerAlone(tokenIds, 30, choice));
    const others = [...tokenIds, ...alone[0]!, ...alone[2]!];
    const nanToken = alone[1]!.slice(5).find((id) => !others.includes(id))!;
    const { engine } = fakeEngine({ nanToken });
    const neighbour = engine.generate({ tokenIds: prompt(6), maxTokens: 3 }).result();
    const request = { tokenIds, maxTokens: 30, n: 3, ...warm };
    await expect(engine.generate(request).results()).rejects.toMatchObject({ code: 'ERR_NUMERIC' });
    await expect(collect(engine.generate(request), 3)).rejects.toMatchObject({ code: 'ERR_NUMERIC' });
    expect((await neighbour).tokenIds).toHaveLength(3);
    await until(() => engine.info().load.freeBlocks === 64);
    expect(engine.info().load).toMatchObject(after);
    await engine.dispose();
  });

  it('by a mask that throws for it', async () => {
    const { engine } = fakeEngine();
    let calls = 0;
    const tokenMask = (outputIds: Int32Array) => {
      if (outputIds.length === 4 && ++calls === 2) throw new Error('the grammar is wrong');
      return null;
    };
    const request = { tokenIds: prompt(18), maxTokens: 30, n: 3, tokenMask, ...warm };
    await expect(engine.generate(request).results()).rejects.toThrow(/the grammar is wrong/);
    await until(() => engine.info().load.freeBlocks === 64);
    expect(engine.info().load).toMatchObject(after);
    await engine.dispose();
  });

  it('by a step that fails', async () => {
    const { engine, runner } = fakeEngine();
    const results = engine.generate({ tokenIds: prompt(18), maxTokens: 30, n: 10, ...warm }).results();
    const failed = expect(results).rejects.toThrow(/out of luck/);
    await until(() => runner.steps === 4);
    runner.nextError = new Error('out of luck');
    await failed;
    await until(() => engine.info().load.freeBlocks === 64);
    expect(engine.info().load).toMatchObject(after);
    await engine.dispose();
  });
});

describe('leaving', () => {
  it.each(['break', 'signal', 'dispose'] as const)('by %s frees all answers, running and waiting', async (way) => {
    const { engine, runner } = fakeEngine();
    const controller = new AbortController();
    const read = async () => {
      let seen = 0;
      const { signal } = controller;
      for await (const _ of engine.generate({ tokenIds: prompt(18), maxTokens: 300, n: 20, signal, ...warm })) {
        if (++seen < 30) continue;
        if (way === 'break') break;
        if (way === 'signal') controller.abort();
        else void engine.dispose();
      }
    };
    const code = { break: null, signal: 'ERR_ABORTED', dispose: 'ERR_DISPOSED' }[way];
    if (code === null) await read();
    else await expect(read()).rejects.toMatchObject({ code });
    await until(() => !runner.busy);
    expect(engine.info().load).toMatchObject({ running: 0, waiting: 0, freeBlocks: 64 });
    const { steps } = runner;
    for (let i = 0; i < 5; i++) await turn();
    expect(runner.steps).toBe(steps);
    await engine.dispose();
  });
});

describe('on a real model with shared later caches', () => {
  const source = fileURLToPath(new URL('../../models/swiftkv-50-g4', import.meta.url));
  const request = {
    tokenIds: prompt(150, 3, 250),
    maxTokens: 20,
    ignoreEos: true,
    logprobs: 1,
    temperature: 1,
    seed: 77,
  };
  const answerOf = ({ tokenIds, logprobs }: GenerateResult) => ({ tokenIds, logprobs });

  it.each(['bf16', 'fp8'] as const)('the answers have the same bits however many run at once (%s)', async (kv) => {
    const start = async (maxSeqs: number, blocks: number, prefixCaching: boolean) => {
      const options = { kvCacheDtype: kv, maxModelLen: 256, maxSeqs, threads: 1 };
      const probe = await recordingModel(source, { ...options, kvCacheBytes: 1 << 20 });
      const kvCacheBytes = blocks * 16 * probe.kvBytesPerToken;
      await probe.dispose();
      const model = await recordingModel(source, { ...options, kvCacheBytes });
      const service = { maxStepMs: 250, prefixCaching, maxQueued: 100, queueTimeoutMs: null };
      return { model, engine: new Engine({ model, tokenizer: null, defaults: samplingDefaults(null), service }) };
    };
    const reference = await start(8, 64, false);
    const one = await reference.engine.generate(request).result();
    const eight = await reference.engine.generate({ ...request, n: 8 }).results();
    expect(answerOf(eight[0]!)).toEqual(answerOf(one));
    expect(new Set(eight.map(({ tokenIds }) => tokenIds.join())).size).toBe(8);
    expect(reference.model.contradictions).toBe(0);
    await reference.engine.dispose();
    for (const [maxSeqs, blocks, prefixCaching] of [
      [1, 64, false],
      [3, 64, true],
      [8, 14, true],
    ] as const) {
      const { model, engine } = await start(maxSeqs, blocks, prefixCaching);
      expect(engine.info().numBlocks).toBe(blocks);
      const results = await engine.generate({ ...request, n: 8 }).results();
      expect(results.map(answerOf)).toEqual(eight.map(answerOf));
      if (blocks === 14) expect(engine.info().load.preemptions).toBeGreaterThan(0);
      expect(model.contradictions).toBe(0);
      await engine.dispose();
    }
  });
});

// Log-probabilities and limits on tokens, on a fake model whose logits are known: each value in its place, whatever the
// chunks, the cache and the neighbours.

import { describe, expect, it } from 'vitest';
import { Engine } from '../../lib/engine/engine.ts';
import { maskOf } from '../../lib/sampling/token-mask.ts';
import { fakeAnswer, fakeLogits, fakeLogprobs } from './fake-model.ts';
import { fakeEngine, prompt } from './harness.ts';

const vocabSize = 97;

/** Of each token but the first, given those before it. */
function expectedLogprobs(tokenIds: readonly number[], top: number) {
  const logits = fakeLogits(tokenIds, vocabSize);
  return tokenIds.slice(1).map((tokenId, i) => {
    const row = logits.subarray(i * vocabSize, (i + 1) * vocabSize);
    return { tokenId, ...fakeLogprobs(row, tokenId, top) };
  });
}

describe('logprobs', () => {
  it('are those of the tokens, in a result and in a stream', async () => {
    const { engine } = fakeEngine();
    const tokenIds = prompt(20);
    const answer = fakeAnswer(tokenIds, { maxTokens: 12, vocabSize });
    const expected = expectedLogprobs([...tokenIds, ...answer], 3).slice(19);
    const result = await engine.generate({ tokenIds, maxTokens: 12, logprobs: 3 }).result();
    expect(result.logprobs).toEqual(expected);
    expect(result.promptLogprobs).toBeNull();
    const streamed = [];
    for await (const part of engine.generate({ tokenIds, maxTokens: 12, logprobs: 3 })) {
      if (part.type !== 'text') continue;
      expect(part.logprobs).toHaveLength(part.tokenIds.length);
      streamed.push(...part.logprobs!);
    }
    expect(streamed).toEqual(expected);
    const without = await engine.generate({ tokenIds, maxTokens: 2 }).result();
    expect(without.logprobs).toBeNull();
    const none = await engine.generate({ tokenIds, maxTokens: 2, logprobs: 0 }).result();
    expect(none.logprobs!.map((one) => one.top)).toEqual([[], []]);
    await engine.dispose();
  });

  it('are the same for tokens that were computed again after a preemption', async () => {
    const { engine } = fakeEngine({ numBlocks: 9 });
    const requests = [0, 1, 2, 3].map((salt) => prompt(20, salt));
    const results = await Promise.all(
      requests.map((tokenIds) => engine.generate({ tokenIds, maxTokens: 40, logprobs: 1, promptLogprobs: 2 }).result()),
    );
    for (const [i, { logprobs, promptLogprobs, tokenIds: answer }] of results.entries()) {
      const tokenIds = requests[i]!;
      expect(answer).toEqual(fakeAnswer(tokenIds, { maxTokens: 40, vocabSize }));
      expect(logprobs).toEqual(expectedLogprobs([...tokenIds, ...answer], 1).slice(19));
      expect(promptLogprobs).toEqual([null, ...expectedLogprobs(tokenIds, 2)]);
    }
    expect(engine.info().load.preemptions).toBeGreaterThan(0);
    await engine.dispose();
  });
});

describe('promptLogprobs', () => {
  it.each([1, 2, 15, 16, 17, 33, 200])('has one for each of %i tokens, null for the first', async (length) => {
    const { engine, runner } = fakeEngine();
    const tokenIds = prompt(length);
    const scored = await engine.generate({ tokenIds, promptLogprobs: 2, maxTokens: 0 }).result();
    expect(scored.promptLogprobs).toEqual([null, ...expectedLogprobs(tokenIds, 2)]);
    expect(scored).toMatchObject({ tokenIds: [], text: '', finishReason: 'length', logprobs: null });
    expect(scored.usage).toMatchObject({ completionTokens: 0, rowLayersSkipped: 0 });
    expect(Number.isFinite(scored.timings.ttftMs)).toBe(true);
    const steps = runner.steps;
    const answered = await engine.generate({ tokenIds, promptLogprobs: 2, maxTokens: 5 }).result();
    expect(answered.promptLogprobs).toEqual(scored.promptLogprobs);
    expect(answered.tokenIds).toEqual(fakeAnswer(tokenIds, { maxTokens: 5, vocabSize }));
    // No more steps than the 16 logit rows of the fake ask for.
    expect(steps).toBeLessThanOrEqual(Math.ceil(length / 16));
    await engine.dispose();
  });

  it('is scored beside other requests, which do not notice', async () => {
    const { engine } = fakeEngine();
    const texts = [50, 70, 90].map((length, salt) => prompt(length, salt));
    const [answers, scores] = await Promise.all([
      Promise.all(texts.map((tokenIds) => engine.generate({ tokenIds, maxTokens: 30 }).result())),
      Promise.all(texts.map((tokenIds) => engine.generate({ tokenIds, promptLogprobs: 0, maxTokens: 0 }).result())),
    ]);
    for (const [i, tokenIds] of texts.entries()) {
      expect(answers[i]!.tokenIds).toEqual(fakeAnswer(tokenIds, { maxTokens: 30, vocabSize }));
      expect(scores[i]!.promptLogprobs).toEqual([null, ...expectedLogprobs(tokenIds, 0)]);
    }
    await engine.dispose();
  });
});

describe('allowed tokens', () => {
  const allowedTokenIds = [3, 31, 32, 64, 96];
  const mask = maskOf(allowedTokenIds, vocabSize);

  it('are the only ones chosen, for the request that says so', async () => {
    const { engine } = fakeEngine();
    const tokenIds = prompt(20);
    const [limited, free] = await Promise.all([
      engine.generate({ tokenIds, maxTokens: 20, allowedTokenIds }).result(),
      engine.generate({ tokenIds, maxTokens: 20 }).result(),
    ]);
    expect(limited.tokenIds).toEqual(fakeAnswer(tokenIds, { maxTokens: 20, vocabSize, mask }));
    expect(limited.tokenIds.every((id) => allowedTokenIds.includes(id))).toBe(true);
    expect(free.tokenIds).toEqual(fakeAnswer(tokenIds, { maxTokens: 20, vocabSize }));
    await engine.dispose();
  });

  it('may depend on the answer so far, after a preemption too', async () => {
    const { engine } = fakeEngine({ numBlocks: 9 });
    const tokenMask = (outputIds: Int32Array) => maskOf([outputIds.length, 50 + outputIds.length], vocabSize);
    const results = await Promise.all(
      [0, 1, 2, 3].map((salt) => engine.generate({ tokenIds: prompt(20, salt), maxTokens: 40, tokenMask }).result()),
    );
    for (const { tokenIds } of results) expect(tokenIds.every((id, i) => id === i || id === 50 + i)).toBe(true);
    expect(engine.info().load.preemptions).toBeGreaterThan(0);
    await engine.dispose();
  });

  it('are those of both, where both limit', async () => {
    const { engine } = fakeEngine();
    const tokenMask = (outputIds: Int32Array) => (outputIds.length === 1 ? null : maskOf([31, 5, 64], vocabSize));
    const { tokenIds } = await engine
      .generate({ tokenIds: prompt(8), maxTokens: 6, allowedTokenIds, tokenMask })
      .result();
    for (const [i, id] of tokenIds.entries()) expect(i === 1 ? allowedTokenIds : [31, 64]).toContain(id);
    await engine.dispose();
  });

  it.each<[string, () => Uint32Array | null, string]>([
    [
      'throws',
      () => {
        throw new Error('no grammar');
      },
      'it threw: no grammar',
    ],
    ['has the wrong length', () => new Uint32Array(3), 'received one of 3'],
    ['is no mask', () => [1, 2] as never, 'received an array of 2'],
  ])('fail their request alone when the mask %s', async (_, tokenMask, message) => {
    const { engine } = fakeEngine();
    const tokenIds = prompt(20);
    const [failed, fine] = await Promise.allSettled([
      engine.generate({ tokenIds, maxTokens: 5, tokenMask }).result(),
      engine.generate({ tokenIds, maxTokens: 5 }).result(),
    ]);
    expect(failed).toMatchObject({
      status: 'rejected',
      reason: { code: 'ERR_INVALID_ARGUMENT', message: expect.stringContaining(message) },
    });
    expect(fine).toMatchObject({ value: { tokenIds: fakeAnswer(tokenIds, { maxTokens: 5, vocabSize }) } });
    await engine.dispose();
  });

  it('fail their request alone when there are none', async () => {
    const { engine } = fakeEngine();
    const none = engine.generate({ tokenIds: prompt(5), maxTokens: 5, tokenMask: () => new Uint32Array(4) }).result();
    await expect(none).rejects.toMatchObject({ code: 'ERR_NO_TOKEN_ALLOWED' });
    expect(engine.info().load).toMatchObject({ running: 0, freeBlocks: 64 });
    await engine.dispose();
  });

  it('survive a mask that disposes of the engine, or aborts a request of the same step', async () => {
    const { engine } = fakeEngine();
    const controller = new AbortController();
    const { signal } = controller;
    const tokenMask = () => {
      controller.abort();
      return mask;
    };
    const [first, second, third] = await Promise.allSettled([
      engine.generate({ tokenIds: prompt(5), maxTokens: 5, tokenMask }).result(),
      engine.generate({ tokenIds: prompt(5), maxTokens: 5, signal, allowedTokenIds }).result(),
      engine.generate({ tokenIds: prompt(5), maxTokens: 5, signal, tokenMask }).result(),
    ]);
    expect(first!.status).toBe('fulfilled');
    for (const aborted of [second, third]) expect(aborted).toMatchObject({ reason: { code: 'ERR_ABORTED' } });
    const last = engine.generate({
      tokenIds: prompt(5),
      tokenMask: () => {
        void engine.dispose();
        return null;
      },
    });
    await expect(last.result()).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    await engine.dispose();
    expect(engine).toBeInstanceOf(Engine);
  });
});

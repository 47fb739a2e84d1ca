// Every option of every call: what is refused, in one shape of message, and what the defaults are.

import { describe, expect, it } from 'vitest';
import { Engine } from '../../lib/engine/engine.ts';
import { checkEngineOptions } from '../../lib/engine/engine-options.ts';
import { checkGenerateOptions } from '../../lib/engine/generate-options.ts';
import { resolveSampling, samplingDefaults } from '../../lib/sampling/options.ts';
import { fakeConfig } from './fake-model.ts';
import { fakeEngine } from './harness.ts';

const config = fakeConfig(97, [3]);
const defaults = samplingDefaults(null);
const check = (options: unknown) => checkGenerateOptions(options, config, defaults, new Set(config.eosTokenIds));

describe('generate options', () => {
  const tokenIds = [1, 2];
  const refused: [unknown, string][] = [
    [undefined, 'Expected options to be an object but received undefined (generate)'],
    [[], 'Expected options to be an object but received an array of 0 (generate)'],
    [{ tokenIds, maxToken: 3 }, 'but received "maxToken" (generate)'],
    [{}, 'Expected exactly one of prompt, messages and tokenIds but received none of them (generate)'],
    [{ prompt: 'a', tokenIds }, 'but received prompt and tokenIds (generate)'],
    [{ prompt: 7 }, 'Expected prompt to be a string but received 7 (generate)'],
    [{ messages: [] }, 'Expected messages to be a non-empty array of { role, content } but received an array of 0'],
    [{ messages: ['x'] }, 'Expected messages[0] to be an object { role, content } but received "x"'],
    [{ messages: [{ role: 'user' }] }, 'Expected messages[0].content to be a string but received undefined'],
    [{ tokenIds: [] }, 'Expected tokenIds to be a non-empty array of token ids but received an array of 0'],
    [{ tokenIds: '12' }, 'Expected tokenIds to be an array or typed array of token ids but received "12"'],
    [{ tokenIds: { length: 1e9 } }, 'but received an object (Object)'],
    [{ tokenIds: new DataView(new ArrayBuffer(4)) }, 'but received an object (DataView)'],
    [{ tokenIds: [1, 97] }, 'Expected tokenIds[1] to be an integer from 0 to 96 but received 97 (generate)'],
    [{ tokenIds: [1, -1] }, 'Expected tokenIds[1] to be an integer from 0 to 96 but received -1'],
    [{ tokenIds: [1.5] }, 'Expected tokenIds[0] to be an integer from 0 to 96 but received 1.5'],
    [{ tokenIds: Float64Array.of(Number.NaN) }, 'Expected tokenIds[0] to be an integer from 0 to 96 but received NaN'],
    [{ tokenIds, maxTokens: -3 }, 'Expected maxTokens to be an integer >= 1 but received -3 (generate)'],
    [{ tokenIds, maxTokens: 0 }, 'Expected maxTokens to be an integer >= 1 but received 0 (generate)'],
    [{ tokenIds, maxTokens: '8' }, 'Expected maxTokens to be an integer >= 1 but received "8" (generate)'],
    [{ tokenIds, maxTokens: null }, 'Expected maxTokens to be an integer >= 1 but received null (generate)'],
    [{ tokenIds, temperature: -1 }, 'Expected temperature to be a number >= 0 and <= 100 but received -1 (generate)'],
    [{ tokenIds, temperature: Number.NaN }, 'Expected temperature to be a number >= 0 and <= 100 but received NaN'],
    [{ tokenIds, topK: 1.5 }, 'Expected topK to be an integer from -1 to 2147483647 but received 1.5'],
    [{ tokenIds, topP: 0 }, 'Expected topP to be a number > 0 and <= 1 but received 0'],
    [{ tokenIds, minP: 2 }, 'Expected minP to be a number >= 0 and <= 1 but received 2'],
    [{ tokenIds, seed: -1 }, 'Expected seed to be a safe integer >= 0 or a bigint from 0 to 2^64 - 1 but received -1'],
    [{ tokenIds, seed: 2 ** 60 }, 'Expected seed to be a safe integer'],
    [{ tokenIds, seed: 2n ** 64n }, 'but received 18446744073709551616n (generate)'],
    [{ tokenIds, ignoreEos: 1 }, 'Expected ignoreEos to be true or false but received 1 (generate)'],
    [{ tokenIds, fullDepth: 'yes' }, 'Expected fullDepth to be true or false but received "yes" (generate)'],
    [{ tokenIds, stopTokenIds: [99] }, 'Expected stopTokenIds[0] to be an integer from 0 to 96 but received 99'],
    [{ tokenIds, repetitionPenalty: 0 }, 'Expected repetitionPenalty to be a number > 0 and <= 100 but received 0'],
    [{ tokenIds, presencePenalty: 101 }, 'Expected presencePenalty to be a number >= -100 and <= 100 but received 101'],
    [
      { tokenIds, frequencyPenalty: '1' },
      'Expected frequencyPenalty to be a number >= -100 and <= 100 but received "1"',
    ],
    [{ tokenIds, logitBias: [1] }, 'Expected logitBias to be an object or Map from token ids to numbers'],
    [
      { tokenIds, logitBias: { x: 1 } },
      'Expected a token id of logitBias to be an integer from 0 to 96 but received "x"',
    ],
    [{ tokenIds, logitBias: { 97: 1 } }, 'Expected a token id of logitBias to be an integer from 0 to 96'],
    [{ tokenIds, logitBias: { 5: Infinity } }, 'Expected logitBias[5] to be a number from -1000 to 1000, or -Infinity'],
    [{ tokenIds, logitBias: new Map([[5, Number.NaN]]) }, 'Expected logitBias[5] to be a number from -1000 to 1000'],
    [{ tokenIds, allowedTokenIds: [] }, 'Expected allowedTokenIds to be a non-empty array of token ids'],
    [{ tokenIds, allowedTokenIds: [97] }, 'Expected allowedTokenIds[0] to be an integer from 0 to 96'],
    [{ tokenIds, tokenMask: 1 }, 'Expected tokenMask to be a function but received 1 (generate)'],
    [{ tokenIds, stop: 5 }, 'Expected stop to be a string of 1 to 1000 UTF-16 units'],
    [{ tokenIds, stop: ['a', ''] }, 'Expected stop[1] to be a string of 1 to 1000 UTF-16 units'],
    [{ tokenIds, stop: 'x'.repeat(1001) }, 'Expected stop to be a string of 1 to 1000 UTF-16 units'],
    [{ tokenIds, stop: '\ud83d' }, 'without half of a surrogate pair'],
    [{ tokenIds, stop: Array(65).fill('a') }, 'Expected stop to be at most 64 strings but received an array of 65'],
    [{ tokenIds, includeStop: 0 }, 'Expected includeStop to be true or false but received 0 (generate)'],
    [{ tokenIds, minTokens: -1 }, 'Expected minTokens to be an integer >= 0 but received -1 (generate)'],
    [{ tokenIds, minTokens: 9, maxTokens: 8 }, 'Expected minTokens to be an integer from 0 to maxTokens (8)'],
    [{ tokenIds, logprobs: 21 }, 'Expected logprobs to be an integer from 0 to 20 but received 21 (generate)'],
    [{ tokenIds, promptLogprobs: true }, 'Expected promptLogprobs to be an integer from 0 to 20 but received true'],
    [{ tokenIds, signal: {} }, 'Expected signal to be an AbortSignal but received an object (Object) (generate)'],
  ];
  it.each(refused)('refuses %o', (options, message) => {
    expect(() => check(options)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT', message: expect.stringContaining(message) }),
    );
  });

  it('reports them to the consumer, not to the caller of generate', async () => {
    const { engine } = fakeEngine();
    const generation = engine.generate({ tokenIds: [1], maxTokens: -3 });
    await expect(generation.result()).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
    const streamed = engine.generate({ tokenIds: [1], maxTokens: -3 })[Symbol.asyncIterator]();
    await expect(streamed.next()).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
    expect(await streamed.next()).toEqual({ done: true, value: undefined });
    await engine.dispose();
  });

  it('treats undefined as not given, and copies what the caller may change', () => {
    const ids = [1, 2, 3];
    const request = check({ tokenIds: ids, prompt: undefined, maxTokens: undefined, stopTokenIds: [5] });
    ids[0] = 50;
    expect(request.input).toEqual({ type: 'tokenIds', tokenIds: Int32Array.of(1, 2, 3) });
    expect(request).toMatchObject({ maxTokens: null, fullDepth: false, signal: null });
    expect([...request.stopIds]).toEqual([3, 5]);
    expect([...check({ tokenIds: ids, stopTokenIds: [5], ignoreEos: true }).stopIds]).toEqual([5]);
  });
});

describe('sampling options', () => {
  const resolve = (options: Record<string, unknown>, stopIds = [3]) =>
    resolveSampling(options, { defaults, vocabSize: 97, stopIds: new Set(stopIds), where: 'generate' });

  it('sorts biases by token, the last one given for a token counts', () => {
    const ids = (options: Record<string, unknown>) => {
      const { biasIds, biases } = resolve(options).state;
      return [Array.from(biasIds), Array.from(biases)];
    };
    expect(ids({ logitBias: { 9: 1, 2: Number.NEGATIVE_INFINITY } })).toEqual([
      [2, 9],
      [Number.NEGATIVE_INFINITY, 1],
    ]);
    expect(
      ids({
        logitBias: new Map<unknown, number>([
          [5, 1],
          ['5', 2],
        ]),
      }),
    ).toEqual([[5], [2]]);
    expect(ids({ logitBias: {} })).toEqual([[], []]);
  });

  it('forbids ending tokens only where minTokens asks for it', () => {
    expect(resolve({}, [7, 3]).state).toMatchObject({ minTokens: 0, endIds: new Int32Array(0) });
    expect(resolve({ minTokens: 2 }, [7, 3]).state).toMatchObject({ minTokens: 2, endIds: Int32Array.of(3, 7) });
  });

  it('draws a seed that is exact as a number, and takes 64 bits as a bigint', () => {
    const drawn = new Set(Array.from({ length: 50 }, () => resolve({}).seed));
    expect(drawn.size).toBe(50);
    for (const seed of drawn) expect(Number.isSafeInteger(seed)).toBe(true);
    const given = resolve({ seed: 2n ** 64n - 1n });
    expect(given).toMatchObject({ seed: 2n ** 64n - 1n, state: { seed: 2n ** 64n - 1n } });
    expect(resolve({ seed: 7 })).toMatchObject({ seed: 7, state: { seed: 7n } });
  });

  it('takes off-values as they are written elsewhere', () => {
    const { state } = resolve({ topK: -1, temperature: 1e-6 });
    expect(state).toMatchObject({ topK: 0, temperature: 0 });
  });

  it('defaults to what generation_config.json says', () => {
    const from = (json: Record<string, unknown> | null) => samplingDefaults(json);
    const off = { topK: 0, topP: 1, minP: 0, repetitionPenalty: 1 };
    expect(from(null)).toEqual({ temperature: 1, ...off, source: 'built-in' });
    expect(from({})).toEqual({ temperature: 1, ...off, source: 'generation_config.json' });
    expect(from({ do_sample: false, temperature: 0.7, top_p: 0.9 })).toMatchObject({ temperature: 0, topP: 1 });
    expect(from({ temperature: 0.6, top_p: 0.9, top_k: 50, min_p: 0.05, repetition_penalty: 1.1 })).toEqual({
      temperature: 0.6,
      topK: 50,
      topP: 0.9,
      minP: 0.05,
      repetitionPenalty: 1.1,
      source: 'generation_config.json',
    });
    expect(() => from({ temperature: 'hot' })).toThrow(expect.objectContaining({ code: 'ERR_MODEL_INVALID' }));
  });
});

describe('Engine.load options', () => {
  const refused: [unknown, string][] = [
    [null, 'Expected options to be an object but received null (Engine.load)'],
    [{ devise: 'cpu' }, 'but received "devise" (Engine.load)'],
    [{ device: 'tpu' }, "Expected device to be 'cpu', 'cuda' or 'cuda:N' but received \"tpu\" (Engine.load)"],
    [{ dtype: 'f16' }, "Expected dtype to be 'auto' or 'f32' or 'bf16' but received \"f16\" (Engine.load)"],
    [{ kvCacheDtype: 'auto' }, "Expected kvCacheDtype to be 'f32' or 'bf16' or 'fp8' but received \"auto\""],
    [{ maxModelLen: 0 }, 'Expected maxModelLen to be an integer >= 1 but received 0'],
    [{ kvCacheBytes: 1.5 }, 'Expected kvCacheBytes to be an integer >= 1 but received 1.5'],
    [{ threads: 0 }, 'Expected threads to be an integer >= 1 but received 0'],
    [{ isa: 5 }, 'Expected isa to be a string but received 5'],
    [{ maxStepMs: 0 }, 'Expected maxStepMs to be a number > 0 but received 0'],
    [{ maxSequences: 2000 }, 'Expected maxSequences to be an integer from 1 to 1024 but received 2000'],
    [{ maxBatchRows: 64 }, 'Expected maxBatchRows to be an integer from 80 to 16384 but received 64'],
    [{ signal: 1 }, 'Expected signal to be an AbortSignal but received 1'],
    [{ onProgress: true }, 'Expected onProgress to be a function but received true'],
  ];
  it.each(refused)('refuses %o', (options, message) => {
    expect(() => checkEngineOptions(options)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT', message: expect.stringContaining(message) }),
    );
  });

  it('fills in the defaults', () => {
    expect(checkEngineOptions({})).toMatchObject({
      service: { maxStepMs: 250, prefixCaching: true, maxQueued: 1024, queueTimeoutMs: null },
      model: { device: 'cpu', dtype: 'auto', maxRows: 512, maxSeqs: 64, maxLogitRows: 64 },
    });
    expect(checkEngineOptions({ maxSequences: 700 }).model).toMatchObject({ maxRows: 716, maxLogitRows: 700 });
  });

  it('rejects before anything is read', async () => {
    await expect(Engine.load('')).rejects.toMatchObject({ code: 'ERR_INVALID_ARGUMENT' });
    await expect(Engine.load('/nowhere', { signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'ERR_ABORTED',
    });
  });
});

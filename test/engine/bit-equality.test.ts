// On the embedded models: a request's logits have the same bits alone and in every company, however its prompt is cut,
// with neighbours that leave, with one thread and two, skipping the later layers or not, preempted or not; and so do
// the tokens that are drawn from them and the log-probabilities that are reported.

import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import { Engine } from '../../lib/engine/engine.ts';
import type { GenerateOptions, GenerateResult } from '../../lib/engine/types.ts';
import type { LoadOptions } from '../../lib/model/load.ts';
import { samplingDefaults } from '../../lib/sampling/options.ts';
import { device, isSlow } from '../places.ts';
import { prompt, turn } from './harness.ts';
import { digest, type RecordingModel, recordingModel } from './recording-model.ts';

const folder = (name: string) => fileURLToPath(new URL(`../../${name}`, import.meta.url));
/** In every vocabulary below. */
const idLimit = 250;

/** Lengths around block edges, and longer than any chunk below. */
const requests: GenerateOptions[] = [1, 15, 16, 17, 33, 64, 150, 301].map((length, i) => ({
  tokenIds: prompt(length, i, idLimit),
  maxTokens: 5 + 4 * (i % 3),
  ignoreEos: true,
  ...(i % 3 === 2 ? { temperature: 0.9, seed: 1000 + i, topP: 0.95 } : { temperature: 0 }),
  ...(i % 2 === 1 ? { repetitionPenalty: 1.3, presencePenalty: 0.4, frequencyPenalty: 0.3, logitBias: { 7: 2 } } : {}),
  ...(i % 4 === 3 ? { stopTokenIds: [3, 7, 11], minTokens: 4, allowedTokenIds: prompt(200, 3, idLimit) } : {}),
  logprobs: i % 3,
}));

/** What must be the same: tokens, and log-probabilities to the bit. */
const answerOf = ({ tokenIds, logprobs }: GenerateResult) => ({ tokenIds, logprobs });

async function start(name: string, options: Partial<LoadOptions>) {
  const model = await recordingModel(folder(name), { maxModelLen: 512, kvCacheBytes: 8 << 20, ...options });
  const service = { maxStepMs: 250, prefixCaching: false, maxQueued: 100, queueTimeoutMs: null };
  return { model, engine: new Engine({ model, tokenizer: null, defaults: samplingDefaults(null), service }) };
}

/** What each request gives when it is the only one there is. */
async function alone(name: string, options: Partial<LoadOptions>) {
  const { model, engine } = await start(name, options);
  const answers: ReturnType<typeof answerOf>[] = [];
  for (const request of requests) answers.push(answerOf(await engine.generate(request).result()));
  await engine.dispose();
  return { seen: model.seen, answers };
}

/** Every context that both have seen gave the same bits; how many there were. */
function agree(model: RecordingModel, reference: ReadonlyMap<string, string>): number {
  let common = 0;
  for (const [context, bits] of model.seen) {
    const expected = reference.get(context);
    if (expected === undefined) continue;
    common++;
    if (bits !== expected) throw new Error('the logits of a context differ in their bits');
  }
  expect(model.contradictions).toBe(0);
  return common;
}

const onLevel = (isa: string) => (device === 'cpu' ? { isa } : {});
const fast: [string, string, Partial<LoadOptions>][] = [
  ['SwiftKV in bf16', 'models/swiftkv-50', { threads: 2 }],
  ['SwiftKV with an fp8 cache', 'models/swiftkv-50', { threads: 2, kvCacheDtype: 'fp8' }],
  ['SwiftKV in f32', 'models/swiftkv-50', { threads: 2, dtype: 'f32' }],
  ['4-way AcrossKV', 'models/swiftkv-50-g4', { threads: 2 }],
  ['a plain Llama', 'models/base', { threads: 2 }],
];
const small: [string, string, Partial<LoadOptions>][] = [
  ['scalar kernels', 'test/golden/data/llama_swiftkv_g2', { threads: 2, ...onLevel('scalar') }],
  [
    'scalar kernels in f32, 4-way',
    'test/golden/data/llama_swiftkv_g4',
    { threads: 2, ...onLevel('scalar'), dtype: 'f32' },
  ],
];
const models = isSlow ? small : [...fast, ...small];

describe.each(models)('%s', (_, name, options) => {
  let reference: Awaited<ReturnType<typeof alone>>;
  /** Logit rows, one for each token. */
  let total: number;

  beforeAll(async () => {
    reference = await alone(name, options);
    total = reference.answers.reduce((sum, { tokenIds }) => sum + tokenIds.length, 0);
    expect(reference.seen.size).toBe(total);
  });

  const mixes: [string, Partial<LoadOptions>][] = [
    ['chunks of 1', { maxRows: 1, maxSeqs: 1 }],
    ['chunks of 7', { maxRows: 7, maxSeqs: 7 }],
    ['chunks of 16', { maxRows: 16, maxSeqs: 8 }],
    ['large steps', { maxRows: 512, maxSeqs: 8 }],
    ['one thread', { maxRows: 40, maxSeqs: 8, threads: 1 }],
  ];
  it.each(mixes)('is the same in a mix: %s', async (_mix, capacity) => {
    const { model, engine } = await start(name, { ...options, ...capacity });
    const results = await Promise.all(
      requests.map(async (request, i) => {
        // Later ones join while earlier ones decode.
        for (let k = 0; k < 3 * (i % 4); k++) await turn();
        return engine.generate(request).result();
      }),
    );
    expect(results.map(answerOf)).toEqual(reference.answers);
    expect(agree(model, reference.seen)).toBe(total);
    if (capacity.maxRows !== 1) expect(model.shapes.some(([T, S]) => S! > 1 && T! > S!)).toBe(true);
    await engine.dispose();
  });

  it('is the same with neighbours that are aborted in mid-step', async () => {
    const { model, engine } = await start(name, { ...options, maxRows: 48, maxSeqs: 12 });
    const controllers: AbortController[] = [];
    const nuisance = async (salt: number) => {
      const controller = new AbortController();
      controllers.push(controller);
      const tokenIds = prompt(20 + salt * 23, salt + 50, idLimit);
      await engine.generate({ tokenIds, maxTokens: 100, ignoreEos: true, signal: controller.signal }).result();
    };
    const neighbours = [0, 1, 2, 3].map((salt) =>
      nuisance(salt).then(
        () => 'finished',
        (error) => error.code,
      ),
    );
    const results = requests.map((request) => engine.generate(request).result());
    for (const controller of controllers) {
      for (let k = 0; k < 5; k++) await turn();
      controller.abort();
    }
    expect((await Promise.all(results)).map(answerOf)).toEqual(reference.answers);
    expect(await Promise.all(neighbours)).toEqual(Array(4).fill('ERR_ABORTED'));
    expect(agree(model, reference.seen)).toBe(total);
    await engine.dispose();
  });

  it('is the same at full depth, where every row takes every layer', async () => {
    const { model, engine } = await start(name, { ...options, maxRows: 48, maxSeqs: 8 });
    const results = await Promise.all(requests.map((r) => engine.generate({ ...r, fullDepth: true }).result()));
    expect(results.map(answerOf)).toEqual(reference.answers);
    expect(agree(model, reference.seen)).toBe(total);
    for (const { usage } of results) expect(usage.rowLayersSkipped).toBe(0);
    for (const rows of model.layerRows) expect(new Set(rows).size).toBe(1);
    await engine.dispose();
  });

  it('is the same when blocks run out and sequences are computed again', async () => {
    const { model: sized, engine: other } = await start(name, options);
    const kvCacheBytes = 26 * 16 * sized.kvBytesPerToken;
    await other.dispose();
    const { model, engine } = await start(name, { ...options, maxRows: 64, maxSeqs: 8, kvCacheBytes });
    const many = [0, 1, 2, 3, 4, 5].map((i) => ({
      tokenIds: prompt(14, i, idLimit),
      maxTokens: 90,
      temperature: 0,
      ignoreEos: true,
    }));
    const results = await Promise.all([...many, ...requests].map((request) => engine.generate(request).result()));
    expect(engine.info().load.preemptions).toBeGreaterThan(0);
    expect(results.slice(many.length).map(answerOf)).toEqual(reference.answers);
    expect(agree(model, reference.seen)).toBe(total);
    await engine.dispose();
  });

  it('is the same in engine.logits, at every position', async () => {
    const { model, engine } = await start(name, options);
    const tokenIds = Int32Array.from(requests[6]!.tokenIds!);
    const busy = engine.generate(requests[7]!).result();
    const { data, rows, vocabSize } = await engine.logits(tokenIds);
    const last = digest(data.subarray((rows - 1) * vocabSize));
    expect(last).toBe(reference.seen.get(digest(tokenIds)));
    for (const length of [1, 16, 17, 100]) {
      const { data: shorter } = await engine.logits(tokenIds.subarray(0, length));
      expect(digest(shorter)).toBe(digest(data.subarray(0, length * vocabSize)));
    }
    expect(answerOf(await busy)).toEqual(reference.answers[7]);
    expect(model.contradictions).toBe(0);
    await engine.dispose();
  });
});

describe.each(models.slice(0, 2))('promptLogprobs of %s', (_, name, options) => {
  const texts = [2, 16, 33, 150].map((length, i) => prompt(length, i, idLimit));
  const score = async (engine: Engine, tokenIds: number[], maxTokens = 0) =>
    (await engine.generate({ tokenIds, promptLogprobs: 2, maxTokens, temperature: 0 }).result()).promptLogprobs!;

  it('are those of engine.logits, and have the same bits in every mix', async () => {
    const { engine } = await start(name, { ...options, maxRows: 512, maxLogitRows: 512 });
    const whole = [];
    for (const tokenIds of texts) {
      const scored = await score(engine, tokenIds);
      whole.push(scored);
      const { data, vocabSize } = await engine.logits(tokenIds);
      for (let i = 1; i < tokenIds.length; i++) {
        const row = data.subarray((i - 1) * vocabSize, i * vocabSize);
        const max = row.reduce((a, b) => Math.max(a, b));
        const norm = max + Math.log(row.reduce((sum, x) => sum + Math.exp(x - max), 0));
        const { logprob, rank, top } = scored[i]!;
        // f32 of a number near 10, from sums in double.
        expect(Math.abs(logprob - (row[tokenIds[i]!]! - norm))).toBeLessThan(4e-6);
        expect(rank).toBe(1 + row.filter((x) => x > row[tokenIds[i]!]!).length);
        expect(top.map((one) => one.tokenId)[0]).toBe(row.indexOf(max));
      }
    }
    await engine.dispose();
    const { engine: small } = await start(name, { ...options, maxRows: 40, maxSeqs: 8, maxLogitRows: 9 });
    const busy = requests.map((request) => small.generate(request).result());
    expect(await Promise.all(texts.map((tokenIds, i) => score(small, tokenIds, i)))).toEqual(whole);
    await Promise.all(busy);
    await small.dispose();
  });
});

describe('counters', () => {
  it('show that prompt rows skip the later half, and that unfinished chunks run none of it', async () => {
    const { model, engine } = await start('models/swiftkv-50', { maxRows: 64, maxSeqs: 8 });
    const { usage } = await engine
      .generate({ tokenIds: prompt(300, 1, idLimit), maxTokens: 1, temperature: 0 })
      .result();
    expect(model.layerRows.slice(0, 4)).toEqual(Array(4).fill([64, 64, 64, 64, 0, 0, 0, 0]));
    expect(model.layerRows[4]).toEqual([44, 44, 44, 44, 1, 1, 1, 1]);
    expect(usage).toMatchObject({ rowLayersRun: 300 * 4 + 4, rowLayersSkipped: 299 * 4 });
    await engine.dispose();
  });
});

describe('the real executor', () => {
  it('stops a long step when the last reader has left, and runs the next request', async () => {
    const { model, engine } = await start('models/swiftkv-50', { ...onLevel('scalar'), maxRows: 512, maxSeqs: 4 });
    const controller = new AbortController();
    const result = engine.generate({ tokenIds: prompt(450, 2, idLimit), signal: controller.signal }).result();
    setTimeout(() => controller.abort(), 20);
    await expect(result).rejects.toMatchObject({ code: 'ERR_ABORTED' });
    const next = await engine.generate({ tokenIds: prompt(3, 2, idLimit), maxTokens: 2, ignoreEos: true }).result();
    expect(next.tokenIds.length).toBe(2);
    expect(model.errors).toEqual(['ERR_ABORTED']);
    await engine.dispose();
  });

  it('is disposed of in mid-step', async () => {
    const { model, engine } = await start('models/swiftkv-50', { ...onLevel('scalar'), maxRows: 512, maxSeqs: 4 });
    const result = engine.generate({ tokenIds: prompt(450, 2, idLimit) }).result();
    const rejected = expect(result).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
    await new Promise((resolve) => setTimeout(resolve, 20));
    await engine.dispose();
    await rejected;
    expect(model.errors).toEqual(['ERR_ABORTED']);
  });
});

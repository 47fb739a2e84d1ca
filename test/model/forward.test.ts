// The native forward pass against the reference decoder that never skips, on model shapes that golden data does not
// have, at every place under test.
//
// Error model, f32: both sides round each stored value to f32; the engine also accumulates in f32, one accumulator per
// output, so a sum of k terms errs by about sqrt(k) 2^-24 of its norm. With k <= 160, up to 9 layers and logits of
// deviation about 1 to 3 that is some 1e-5; the golden data's bound for the same quantities is 2e-4.
// bf16: the golden data's bounds (RMS 0.12, element 1.0 at deviation 2.5).

import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadModel } from '../../lib/model/load.ts';
import type { NativeModelRunner } from '../../lib/model/native-runner.ts';
import { openModel } from '../../lib/model/open-model.ts';
import { optionsOf, places } from '../places.ts';
import { type ReferenceResult, referenceForward, row } from '../reference/decoder.ts';
import { type GeneratedModel, plainModel, randomStream, writeModel } from '../reference/generate.ts';
import { temporaryFolder } from '../reference/temp-dir.ts';
import { readCheckpointTensors } from '../reference/tensors.ts';
import { blocksFor, fillBatch } from './drive.ts';

const folder = await temporaryFolder();
const tolerance = 2e-4;

const cases: Record<string, Partial<GeneratedModel>> = {
  'plain, head_dim != d / Hq, biases everywhere': { headDim: 12, attentionBias: true, mlpBias: true, layers: 3 },
  'plain, tied, linear rope': { tied: true, rope: 'linear', spelling: 'new' },
  'odd L, n = 1, g = L - n': { layers: 5, kvLayers: 1, group: 4, rope: 'llama3' },
  'n = L': { layers: 3, kvLayers: 3, attentionBias: true },
  'n = L - 1': { layers: 4, kvLayers: 3, stripped: true },
  'AcrossKV with biases, sharded': {
    layers: 9,
    kvLayers: 3,
    group: 2,
    attentionBias: true,
    mlpBias: true,
    shards: 3,
    spelling: 'new',
    rope: 'llama3',
  },
  'one KV head, wide heads, odd widths': {
    layers: 4,
    kvLayers: 2,
    group: 2,
    hiddenSize: 38,
    heads: 3,
    kvHeads: 1,
    headDim: 34,
    intermediateSize: 51,
    vocabSize: 131,
  },
  'qwen2, plain: biases on q, k, v': { family: 'qwen2', layers: 3, rope: 'linear' },
  'qwen2, AcrossKV': { family: 'qwen2', layers: 5, kvLayers: 1, group: 2, stored: 'BF16', tied: true },
  'qwen3, plain, wide heads': { family: 'qwen3', layers: 3, headDim: 20, tied: true },
  'qwen3, AcrossKV': { family: 'qwen3', layers: 6, kvLayers: 2, group: 2, headDim: 16, stripped: true },
  'qwen3, g = 1, biases': { family: 'qwen3', layers: 4, kvLayers: 2, headDim: 34, attentionBias: true },
  'mistral, AcrossKV': { family: 'mistral', layers: 5, kvLayers: 1, group: 4, headDim: 12, spelling: 'new' },
  'no grouping of heads': { layers: 2, kvLayers: 1, heads: 4, kvHeads: 4, headDim: 8, stored: 'BF16', stripped: true },
};

function randomIds(count: number, vocabSize: number, seed: number): number[] {
  const random = randomStream(seed);
  return Array.from({ length: count }, () => Math.floor(((random() + 1) / 2) * vocabSize));
}

function expectClose(actual: Float32Array, expected: Float32Array, limit: number): void {
  expect(actual.length).toBe(expected.length);
  let worst = 0;
  let at = 0;
  actual.forEach((value, i) => {
    const difference = Math.abs(value - expected[i]!);
    if (!(difference <= worst)) [worst, at] = [difference, i];
  });
  expect(worst, `element ${at}: ${actual[at]} instead of ${expected[at]}`).toBeLessThan(limit);
}

async function load(dir: string, options: object = {}): Promise<NativeModelRunner> {
  return loadModel(dir, { device: 'cpu', dtype: 'f32', maxModelLen: 128, maxRows: 64, maxSeqs: 4, ...options });
}

describe.each(Object.entries(cases))('%s', async (name, overrides) => {
  const model: GeneratedModel = { ...plainModel, ...overrides, seed: name.length };
  const dir = join(folder, name.replace(/\W+/g, '-'));
  await writeModel(dir, model);
  const { checkpoint, config } = await openModel(dir);
  const weights = await readCheckpointTensors(checkpoint);
  // Two blocks and a bit.
  const ids = randomIds(37, model.vocabSize, 5);
  const expected: ReferenceResult = referenceForward(config, weights, ids);

  it.each(places)('logits at every position, %s', async (place) => {
    const runner = await load(dir, { ...optionsOf(place), maxLogitRows: 16 });
    try {
      expectClose(await runner.logits(ids, blocksFor(ids.length)), expected.logits.data, tolerance);
    } finally {
      await runner.dispose();
    }
  });

  it.each(places)('hidden states, keys and values, %s', async (place) => {
    const runner = await load(dir, optionsOf(place));
    try {
      const names = Array.from({ length: config.numLayers + 1 }, (_, l) => `hidden.${l}`);
      const program = runner.createProgram('tapped', { taps: [...names, 'norm'] });
      const batch = runner.batches[0];
      fillBatch(batch, [{ row: 0, blocks: blocksFor(ids.length), ids, start: 0, survivors: 'all' }]);
      await program.run(batch);
      names.forEach((tap, l) => {
        expectClose(program.read(tap, ids.length), expected.hidden[l]!.data, tolerance);
      });
      expectClose(program.read('norm', ids.length), expected.normed.data, tolerance);
      const slots = Int32Array.from(ids, (_, i) => i);
      for (let cache = 0; cache < expected.k.length; cache++) {
        const { k, v } = await runner.readCache(cache, slots);
        expectClose(k, expected.k[cache]!.data, tolerance);
        expectClose(v, expected.v[cache]!.data, tolerance);
      }
    } finally {
      await runner.dispose();
    }
  });

  it('skips: the last row alone has the bits of full depth, and the counters prove it', async () => {
    const runner = await load(dir);
    try {
      const full = await runner.logits(ids, blocksFor(ids.length));
      const batch = runner.batches[1];
      const n = config.numKvLayers;
      const blocks = blocksFor(ids.length, 8);
      const rowsOfLayers = (early: number, late: number) =>
        Array.from({ length: config.numLayers }, (_, l) => (l < n ? early : late));

      // An unfinished chunk runs none of the later layers.
      fillBatch(batch, [{ row: 2, blocks, ids: ids.slice(0, 20), start: 0, survivors: 'none' }]);
      await runner.run(batch);
      expect([...batch.layerRows]).toEqual(rowsOfLayers(20, 0));
      expect(batch.rowLayers[2]).toBe(20 * n);

      fillBatch(batch, [{ row: 2, blocks, ids: ids.slice(20), start: 20, survivors: 'last' }]);
      await runner.run(batch);
      expect([...batch.layerRows]).toEqual(rowsOfLayers(17, 1));
      expect(batch.rowLayers[2]).toBe(17 * n + (config.numLayers - n));
      const last = runner.readLogits(1);
      expect(last).toEqual(full.subarray((ids.length - 1) * config.vocabSize));
      const best = row(expected.logits, ids.length - 1);
      expect(batch.sampledIds[0]).toBe(best.indexOf(Math.max(...best)));
    } finally {
      await runner.dispose();
    }
  });

  it.each(places)('bf16 stays within its bounds, %s', async (place) => {
    const runner = await load(dir, { ...optionsOf(place), dtype: 'bf16' });
    try {
      const actual = await runner.logits(ids, blocksFor(ids.length));
      const difference = actual.map((value, i) => value - expected.logits.data[i]!);
      const rms = (values: Float32Array) => Math.sqrt(values.reduce((sum, x) => sum + x * x, 0) / values.length);
      // The golden data's bounds hold for logits of deviation 2.5.
      const scale = Math.max(1, rms(expected.logits.data) / 2.5);
      expect(rms(difference)).toBeLessThan(0.12 * scale);
      expect(Math.max(...difference.map(Math.abs))).toBeLessThan(1.0 * scale);
    } finally {
      await runner.dispose();
    }
  });
});

describe('row invariance', async () => {
  const model: GeneratedModel = { ...plainModel, layers: 5, kvLayers: 2, group: 3, attentionBias: true, seed: 77 };
  const dir = join(folder, 'invariance');
  await writeModel(dir, model);
  const prompts = [
    randomIds(41, model.vocabSize, 1),
    randomIds(17, model.vocabSize, 2),
    randomIds(5, model.vocabSize, 3),
  ];

  it.each(places.flatMap((place) => (['f32', 'bf16'] as const).map((dtype) => [place, dtype] as const)))(
    'chunks, neighbours and threads leave the bits alone, %s %s',
    async (place, dtype) => {
      const alone: Float32Array[] = [];
      for (const threads of [1, 2]) {
        const runner = await load(dir, { ...optionsOf(place), dtype, threads });
        try {
          const batch = runner.batches[0];
          const step = async (chunks: Parameters<typeof fillBatch>[1]) => {
            const { S } = fillBatch(batch, chunks);
            await runner.run(batch);
            return runner.readLogits(S);
          };
          const whole: Float32Array[] = [];
          for (const [i, ids] of prompts.entries()) {
            whole.push(await step([{ row: i, blocks: blocksFor(41, i * 3), ids, start: 0, survivors: 'last' }]));
          }
          if (threads === 1) alone.push(...whole);
          else expect(whole).toEqual(alone);
          // Every way of cutting the first prompt, with the others' chunks beside it.
          for (const size of [1, 7, 16, 40]) {
            let last: Float32Array | null = null;
            for (let start = 0; start < 41; start += size) {
              const ids = prompts[0]!.slice(start, start + size);
              const end = start + ids.length === 41;
              const beside = prompts[1]!.slice(0, 1 + (start % 17));
              const logits = await step([
                { row: 3, blocks: blocksFor(17, 20), ids: beside, start: 0, survivors: 'all' },
                { row: 1, blocks: blocksFor(41, 9), ids, start, survivors: end ? 'last' : 'none' },
                { row: 0, blocks: blocksFor(5, 30), ids: prompts[2]!, start: 0, survivors: 'last' },
              ]);
              const V = model.vocabSize;
              expect(logits.subarray(-V)).toEqual(alone[2]);
              if (end) last = logits.subarray(beside.length * V, (beside.length + 1) * V);
            }
            expect(last).toEqual(alone[0]);
          }
        } finally {
          await runner.dispose();
        }
      }
    },
  );
});

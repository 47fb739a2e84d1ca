// A sequence forked by blocks: full blocks are shared, the last one is copied. Both branches go on in one step, and every
// row has the bits that it has in a sequence of its own, sampled tokens with penalties included.

import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { numDistinctCaches } from '../../lib/model/config.ts';
import { type LoadOptions, loadModel } from '../../lib/model/load.ts';
import type { NativeModelRunner } from '../../lib/model/native-runner.ts';
import { native } from '../../lib/native/load.ts';
import { greedy } from '../../lib/sampling/options.ts';
import { type Chunk, fillBatch } from './drive.ts';

const folder = (name: string) => fileURLToPath(new URL(`../../models/${name}`, import.meta.url));
const ids = (length: number, salt: number) => Array.from({ length }, (_, i) => (i * 37 + salt * 11 + 5) % 250);

/** Runs a step, and returns each logit row and the token drawn from it. */
async function step(runner: NativeModelRunner, chunks: readonly Chunk[], outputPosition = 0) {
  const batch = runner.batches[0];
  const { S } = fillBatch(batch, chunks);
  batch.outputPositions.fill(outputPosition, 0, S);
  await runner.run(batch);
  const { vocabSize } = runner.config;
  const logits = runner.readLogits(S);
  return Array.from({ length: S }, (_, i) => ({
    logits: logits.slice(i * vocabSize, (i + 1) * vocabSize),
    id: batch.sampledIds[i]!,
  }));
}

async function copyBlock(runner: NativeModelRunner, from: number, to: number): Promise<void> {
  const { device, pool, config } = runner;
  const binding = native();
  const [source, target] = [from, to].map((block) => {
    const tensor = binding.tensor(device, 'i32', [1], 'row_major');
    tensor.write(new Uint8Array(Int32Array.of(block).buffer));
    return tensor;
  });
  const caches = Array.from({ length: numDistinctCaches(config) }, (_, i) => pool.cache(i));
  await device.run('copy_blocks', { from: source!, to: target!, caches }, {});
  source!.dispose();
  target!.dispose();
}

const sampler = (choice: number) => ({
  ...greedy,
  temperature: 0.9,
  seed: 77n,
  choice,
  repetitionPenalty: 1.2,
  frequencyPenalty: 0.5,
});

const models: [string, string, Partial<LoadOptions>][] = [
  ['SwiftKV in bf16', 'swiftkv-50', {}],
  ['SwiftKV with an fp8 cache', 'swiftkv-50', { kvCacheDtype: 'fp8' }],
  ['4-way AcrossKV in f32', 'swiftkv-50-g4', { dtype: 'f32' }],
  ['a plain Llama', 'base', {}],
];

describe.each(models)('%s', (_, name, options) => {
  it.each([33, 47, 48])('a fork after %i tokens gives each branch the bits it has alone', async (length) => {
    const runner = await loadModel(folder(name), {
      device: 'cpu',
      dtype: 'auto',
      maxModelLen: 128,
      kvCacheBytes: 4 << 20,
      ...options,
    });
    const prompt = ids(length, 1);
    const full = Math.floor(length / 16);
    const shared = Array.from({ length: full }, (_unused, i) => i);
    const setSampler = (slot: number, choice: number, outputs: number[]) =>
      runner.setSampler(slot, sampler(choice), Int32Array.from(prompt), Int32Array.from(outputs));

    // One prompt; the first token of each choice is drawn from the same row.
    const firstTokens: number[] = [];
    for (const choice of [0, 1]) {
      setSampler(0, choice, []);
      const start = choice === 0 ? 0 : length - 1;
      const chunk = { row: 0, blocks: [...shared, full], ids: prompt.slice(start), start, survivors: 'last' as const };
      firstTokens.push((await step(runner, [chunk]))[0]!.id);
    }
    if (length % 16 !== 0) await copyBlock(runner, full, 9);
    const tables = [
      [...shared, full, full + 1, full + 2],
      [...shared, 9, 10, 11],
    ];
    setSampler(0, 0, [firstTokens[0]!]);
    setSampler(1, 1, [firstTokens[1]!]);
    const branches = firstTokens.map((id) => [id]);
    const seen: Float32Array[][] = [[], []];
    for (let t = 0; t < 20; t++) {
      const chunks = branches.map((branch, row): Chunk => {
        return { row, blocks: tables[row]!, ids: [branch[t]!], start: length + t, survivors: 'last' };
      });
      const rows = await step(runner, chunks, t + 1);
      for (const [row, { logits, id }] of rows.entries()) {
        seen[row]!.push(logits);
        branches[row]!.push(id);
      }
    }
    expect(branches[0]).not.toEqual(branches[1]);

    // Alone, in blocks of its own, after a recomputation of everything but the last ten tokens.
    for (const choice of [0, 1]) {
      const branch = branches[choice]!;
      setSampler(2, choice, branch.slice(0, 11));
      const blocks = [20, 21, 22, 23, 24, 25];
      const text = [...prompt, ...branch.slice(0, 10)];
      await step(runner, [{ row: 2, blocks, ids: text, start: 0, survivors: 'none' }]);
      for (let t = 10; t < 20; t++) {
        const chunk: Chunk = { row: 2, blocks, ids: [branch[t]!], start: length + t, survivors: 'last' };
        const [row] = await step(runner, [chunk], t + 1);
        expect(row!.logits).toEqual(seen[choice]![t]);
        expect(row!.id).toBe(branch[t + 1]);
      }
    }
    await runner.dispose();
  });
});

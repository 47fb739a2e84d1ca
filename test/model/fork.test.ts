// A sequence forked by blocks: full blocks are shared, the last one is copied by the step that goes on. Both branches go
// on in that step, and every row has the bits that it has in a sequence of its own, sampled tokens with penalties included.

import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { type LoadOptions, loadModel } from '../../lib/model/load.ts';
import type { NativeModelRunner } from '../../lib/model/native-runner.ts';
import { greedy } from '../../lib/sampling/options.ts';
import { type Chunk, fillBatch } from './drive.ts';

const folder = (name: string) => fileURLToPath(new URL(`../../models/${name}`, import.meta.url));
const ids = (length: number, salt: number) => Array.from({ length }, (_, i) => (i * 37 + salt * 11 + 5) % 250);

type Copy = readonly [source: number, destination: number];

/** Runs a step, and returns each logit row and the token drawn from it. */
async function step(
  runner: NativeModelRunner,
  chunks: readonly Chunk[],
  outputPosition = 0,
  copies: readonly Copy[] = [],
) {
  const batch = runner.batches[0];
  const { S } = fillBatch(batch, chunks);
  batch.counts[6] = copies.length;
  batch.copySources.set(copies.map(([source]) => source));
  batch.copyDestinations.set(copies.map(([, destination]) => destination));
  batch.outputPositions.fill(outputPosition, 0, S);
  await runner.run(batch);
  const { vocabSize } = runner.config;
  const logits = runner.readLogits(S);
  return Array.from({ length: S }, (_, i) => ({
    logits: logits.slice(i * vocabSize, (i + 1) * vocabSize),
    id: batch.sampledIds[i]!,
  }));
}

const load = (name: string, options: Partial<LoadOptions>) =>
  loadModel(folder(name), { device: 'cpu', dtype: 'auto', maxModelLen: 128, kvCacheBytes: 4 << 20, ...options });

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
    const runner = await load(name, options);
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
      const copies: Copy[] = t === 0 && length % 16 !== 0 ? [[full, 9]] : [];
      const rows = await step(runner, chunks, t + 1, copies);
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

  it('a fork of every slot at once copies for all of them, and the source goes on as it was', async () => {
    const runner = await load(name, { ...options, maxRows: 16, maxSeqs: 9 });
    expect(runner.capacity.maxCopies).toBe(9);
    runner.setSampler(0, greedy, Int32Array.of(), Int32Array.of());
    const prompt = ids(21, 2);
    await step(runner, [{ row: 0, blocks: [0, 1], ids: prompt.slice(0, 16), start: 0, survivors: 'none' }]);
    await step(runner, [{ row: 0, blocks: [0, 1], ids: prompt.slice(16, 20), start: 16, survivors: 'none' }]);
    // The source is written by its own row of the step that copies it.
    const copies = Array.from({ length: 8 }, (_unused, i): Copy => [1, 20 - i]);
    const chunks = Array.from({ length: 9 }, (_unused, row): Chunk => {
      const block = row === 0 ? 1 : copies[row - 1]![1];
      return { row, blocks: [0, block], ids: [prompt[20]! + (row % 2)], start: 20, survivors: 'last' };
    });
    const rows = await step(runner, chunks, 0, copies);
    const slot = (block: number) => Int32Array.from({ length: 5 }, (_unused, i) => block * 16 + i);
    for (const cache of [0, runner.pool.numCaches - 1]) {
      const source = await runner.readCache(cache, slot(1));
      for (const [, block] of copies.filter((_copy, i) => i % 2 === 1)) {
        expect(await runner.readCache(cache, slot(block))).toEqual(source);
      }
    }
    for (const [row, { logits }] of rows.entries()) expect(logits).toEqual(rows[row % 2]!.logits);
    expect(rows[0]!.logits).not.toEqual(rows[1]!.logits);
    await runner.dispose();
  });

  it('a step that would copy astray is refused, and copies nothing', async () => {
    const runner = await load(name, options);
    const chunk: Chunk = { row: 0, blocks: [0], ids: [5], start: 0, survivors: 'none' };
    await step(runner, [chunk]);
    const before = await runner.readCache(0, Int32Array.of(0, 16, 32));
    const bad: Copy[][] = [
      [[0, runner.numBlocks]],
      [[-1, 1]],
      [[0, 0]],
      [
        [0, 1],
        [1, 2],
      ],
      [
        [0, 1],
        [0, 1],
      ],
    ];
    for (const copies of bad) {
      await expect(step(runner, [chunk], 0, copies)).rejects.toMatchObject({ code: 'ERR_INTERNAL' });
    }
    expect(await runner.readCache(0, Int32Array.of(0, 16, 32))).toEqual(before);
    await runner.dispose();
  });
});

// The golden checkpoints through the runner: logits at every position, and greedy continuations in f32 and bf16 with
// the prompt whole and in chunks. Bounds: the golden data's README.

import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { exportModel } from '../../lib/checkpoint/export.ts';
import { loadModel } from '../../lib/model/load.ts';
import type { NativeModelRunner } from '../../lib/model/native-runner.ts';
import { native } from '../../lib/native/load.ts';
import { greedy as greedySampler } from '../../lib/sampling/options.ts';
import { temporaryFolder } from '../reference/temp-dir.ts';
import { readSafetensors } from '../reference/tensors.ts';
import { blocksFor, fillBatch } from './drive.ts';

const folder = await temporaryFolder();
const golden = (name: string) => fileURLToPath(new URL(`../golden/data/${name}`, import.meta.url));
const embedded = (name: string) => fileURLToPath(new URL(`../../models/${name}`, import.meta.url));
const levels = native().cpuInfo().levels;

/** Prompt in chunks of `size`, then one token at a time. */
async function greedy(runner: NativeModelRunner, prompt: number[], count: number, size: number): Promise<number[]> {
  const batch = runner.batches[0];
  const blocks = blocksFor(prompt.length + count);
  runner.setSampler(0, greedySampler, new Int32Array(0), new Int32Array(0));
  const step = async (ids: number[], start: number, survivors: 'none' | 'last') => {
    fillBatch(batch, [{ row: 0, blocks, ids, start, survivors }]);
    await runner.run(batch);
    return batch.sampledIds[0]!;
  };
  const ids: number[] = [];
  for (let start = 0; start < prompt.length; start += size) {
    const isLast = start + size >= prompt.length;
    const id = await step(prompt.slice(start, start + size), start, isLast ? 'last' : 'none');
    if (isLast) ids.push(id);
  }
  while (ids.length < count) ids.push(await step([ids.at(-1)!], prompt.length + ids.length - 1, 'last'));
  return ids;
}

describe.each([
  'llama_plain',
  'llama_swiftkv_g1',
  'llama_swiftkv_g2',
  'llama_swiftkv_g4',
  'llama_swiftkv_hd64',
  'llama_swiftkv_fp8',
  'qwen2_swiftkv_g2',
  'qwen2_plain',
  'qwen3_plain',
  'mistral_plain',
])('%s', async (name) => {
  const expected = await readSafetensors(golden(`${name}.expected.safetensors`));
  const data = (key: string) => expected.get(key)!.data;

  it.each(levels)('logits, %s', async (isa) => {
    const runner = await loadModel(golden(name), { device: 'cpu', dtype: 'f32', isa });
    for (const seq of ['seq0', 'seq1']) {
      const ids = [...data(`${seq}.input_ids`)];
      const logits = await runner.logits(ids, blocksFor(ids.length));
      const worst = logits.reduce((max, value, i) => Math.max(max, Math.abs(value - data(`${seq}.logits`)[i]!)), 0);
      expect(worst).toBeLessThan(2e-4);
    }
    await runner.dispose();
  });

  it.each(levels.flatMap((isa) => [[isa, 'f32'] as const, [isa, 'bf16'] as const]))(
    'greedy continuations, %s %s',
    async (isa, dtype) => {
      const runner = await loadModel(golden(name), { device: 'cpu', dtype, isa });
      for (const seq of ['seq0', 'seq1']) {
        const prompt = [...data(`${seq}.input_ids`)];
        for (const size of [1, 7, 16, 64]) {
          expect(await greedy(runner, prompt, 16, size), `chunks of ${size}`).toEqual([...data(`${seq}.greedy_ids`)]);
        }
      }
      await runner.dispose();
    },
  );
});

it('gives a variant and its export the same bits', async () => {
  const out = `${folder}/exported`;
  await exportModel(embedded('swiftkv-50-g4'), out);
  const logits = async (dir: string) => {
    const runner = await loadModel(dir, { device: 'cpu', dtype: 'auto' });
    const result = await runner.logits([0, 100, 200, 300, 400], [0]);
    await runner.dispose();
    return result;
  };
  expect(await logits(out)).toEqual(await logits(embedded('swiftkv-50-g4')));
});

// What training is said to take, against what native code holds.

import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { cpuInfo } from '../../lib/kernels/device.ts';
import { parseRandomModel } from '../../lib/model/random.ts';
import type { NativeMemory } from '../../lib/native/binding.ts';
import { requireMemory, type TrainingBytes, trainingBytes } from '../../lib/train/memory.ts';
import { TrainingModel, type TrainingModelOptions } from '../../lib/train/model.ts';

const golden = (name: string) => fileURLToPath(new URL(`../golden/data/${name}`, import.meta.url));
const capacity = { maxRows: 1024, maxSeqs: 8, maxLength: 256, recompute: false, dtype: 'bf16', threads: 2 } as const;
const cases = [
  ['embedded:swiftkv-50', 'distill'],
  ['embedded:swiftkv-50-g4', 'distill'],
  ['embedded:base', 'train'],
  [golden('llama_swiftkv_g2'), 'distill'],
  [golden('qwen2_swiftkv_g2'), 'train'],
] as const;

/** What a model holds after its first evaluation, and what was said before. */
async function measure(
  source: string,
  options: TrainingModelOptions,
): Promise<{ held: NativeMemory; said: TrainingBytes }> {
  const model = await TrainingModel.open(source, options);
  try {
    const ids = Int32Array.of(3, 4, 5);
    await model.evaluate({ ids, starts: Int32Array.of(0, 3), weights: Float32Array.of(1, 1, 0) });
    const said = trainingBytes(model.config, { ...options, threads: model.threads, isa: model.level });
    return { held: model.device.memory(), said };
  } finally {
    await model.dispose();
  }
}

describe('the memory of training', () => {
  it.each(
    cases.flatMap(([source, task]) =>
      (['bf16', 'f32'] as const).flatMap((dtype) =>
        cpuInfo().levels.map((isa) => [source.split('/').at(-1)!, task, dtype, isa, source] as const),
      ),
    ),
  )('is what was counted, %s %s %s %s', async (_, task, dtype, isa, source) => {
    const saved: { held: number; said: number }[] = [];
    for (const recompute of [false, true]) {
      const { held, said } = await measure(source, { ...capacity, task, dtype, isa, recompute });
      expect(held.weights).toBe(said.weights + said.transposes);
      expect(held.kvPool).toBe(said.kvPool);
      // Between them 2 KiB: hyperparameters, a batch's counts, alignment.
      const arrays = said.parameters + said.gradients + said.moments + said.inputs;
      expect(Math.abs(held.tensors + held.ropeTable + held.batches - arrays)).toBeLessThan(2048);
      expect(Math.abs(said.total / held.total - 1), `${said.total} said, ${held.total} held`).toBeLessThan(0.1);
      saved.push({ held: held.total, said: said.total });
    }
    const [kept, recomputed] = saved;
    // Scratch and most else is the same in both, and buffers are counted one by one.
    const ratio = (kept!.said - recomputed!.said) / (kept!.held - recomputed!.held);
    expect(Math.abs(ratio - 1)).toBeLessThan(0.01);
    expect(recomputed!.held).toBeLessThan(kept!.held);
  });

  it('grows with rows, and a larger model keeps mostly what is trained', () => {
    const { config } = parseRandomModel('random:llama-3.2-1b');
    const bytes = (maxRows: number, recompute: boolean) =>
      trainingBytes(config, { ...capacity, task: 'train', maxRows, recompute });
    const [small, large] = [bytes(256, false), bytes(2048, false)];
    expect(large.activations).toBeGreaterThan(7 * small.activations);
    expect(bytes(2048, true).activations).toBeLessThan(large.activations / 3);
    expect(small.parameters).toBe(4 * 1_235_814_400);
    expect(small.moments).toBe(2 * small.parameters);
  });
});

describe('memory that is not there', () => {
  const bytes: TrainingBytes = {
    weights: 1 << 30,
    transposes: 0,
    parameters: 1 << 30,
    gradients: 1 << 30,
    moments: 1 << 30,
    activations: 1 << 29,
    evaluation: 0,
    kvPool: 1 << 28,
    scratch: 0,
    inputs: 1 << 28,
    total: 5 * 2 ** 30,
    checkpoint: 3 * 2 ** 30,
  };

  it('is refused with the sum', () => {
    expect(() => requireMemory(bytes, 8 * 2 ** 30)).toThrow(
      'Training needs 5.0 GiB: weights 1.0 GiB, parameters, gradients and moments 3.0 GiB, activations 512.0 MiB, ' +
        'KV cache 256.0 MiB, workspace 256.0 MiB; available are 5.0 GiB beside 3.0 GiB',
    );
    expect(() => requireMemory(bytes, 9 * 2 ** 30)).not.toThrow();
  });

  it('is refused before it is asked for', async () => {
    const options = { ...capacity, task: 'distill', maxRows: 2 ** 30, threads: 1 } as const;
    await expect(TrainingModel.open('embedded:swiftkv-50', options)).rejects.toMatchObject({
      code: 'ERR_OUT_OF_MEMORY',
      message: expect.stringMatching(/^Training needs [\d.]+ TiB: weights .* Lower tokensPerBatch/),
    });
  });
});

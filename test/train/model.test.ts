// A model in training against the same model in inference, against its own finite differences, and against itself.

import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { Engine } from '../../lib/engine/engine.ts';
import { native } from '../../lib/native/load.ts';
import { type TrainingBatch, TrainingModel, type TrainingModelOptions } from '../../lib/train/model.ts';

const golden = (name: string) => fileURLToPath(new URL(`../golden/data/${name}`, import.meta.url));
const lengths = [1, 17, 5, 33];
const rows = lengths.reduce((sum, n) => sum + n, 0);
const common = { dtype: 'f32', maxRows: 64, maxSeqs: 6, maxLength: 40, recompute: false, threads: 1 } as const;

function batchOf(hiddenSize: number): TrainingBatch {
  const starts = Int32Array.from({ length: lengths.length + 1 }, (_, i) =>
    lengths.slice(0, i).reduce((sum, n) => sum + n, 0),
  );
  const ids = Int32Array.from({ length: rows }, (_, i) => 3 + ((i * 37 + 11) % 250));
  // Some rows count nothing, among them the last of every sequence.
  const weights = Float32Array.from({ length: rows }, (_, i) => (i % 5 === 0 ? 0 : (1 + (i % 3)) / rows));
  for (const end of starts.slice(1)) weights[end - 1] = 0;
  return { ids, starts, weights, hiddenWeights: new Float32Array(rows).fill(1 / (rows * hiddenSize)) };
}

async function withModel<T>(
  name: string,
  options: Partial<TrainingModelOptions>,
  use: (m: TrainingModel) => Promise<T>,
) {
  const model = await TrainingModel.open(golden(name), { task: 'distill', ...common, ...options });
  try {
    return await use(model);
  } finally {
    await model.dispose();
  }
}

const students = ['llama_swiftkv_g1', 'llama_swiftkv_g2', 'llama_swiftkv_g4', 'qwen2_swiftkv_g2'];

describe('the forward pass of training', () => {
  it.each(
    [...students, 'llama_plain', 'qwen2_plain', 'mistral_plain'].flatMap((name) =>
      (['f32', 'bf16'] as const).map((dtype) => [name, dtype] as const),
    ),
  )('gives the logits of the engine, %s in %s', async (name, dtype) => {
    await using engine = await Engine.load(golden(name), { dtype, kvCacheDtype: dtype, maxModelLen: 64, threads: 1 });
    await withModel(name, { task: 'train', dtype, taps: ['logits'] }, async (model) => {
      const batch = batchOf(model.config.hiddenSize);
      await model.microStep(batch);
      const { vocabSize } = model.config;
      const logits = model.readTap('logits', rows);
      for (const [s, length] of lengths.entries()) {
        const start = batch.starts[s]!;
        const expected = await engine.logits([...batch.ids.subarray(start, start + length)]);
        expect(logits.subarray(start * vocabSize, (start + length) * vocabSize)).toEqual(expected.data);
      }
    });
  });

  it.each(students)('gives the same losses without gradients, %s', async (name) => {
    await withModel(name, {}, async (model) => {
      const batch = batchOf(model.config.hiddenSize);
      const { logitsLoss } = await model.microStep(batch);
      expect(await model.evaluate(batch)).toBe(logitsLoss);
    });
  });
});

describe('gradients', () => {
  it.each(students.flatMap((name) => (['distill', 'train'] as const).map((task) => [name, task] as const)))(
    'have the same bits with recomputation and on two threads, %s %s',
    async (name, task) => {
      const gradients: Float32Array[] = [];
      for (const option of [{}, { recompute: true }, { threads: 2 }, { recompute: true, threads: 2 }]) {
        await withModel(name, { task, ...option }, async (model) => {
          await model.microStep(batchOf(model.config.hiddenSize));
          gradients.push(model.read('gradients'));
        });
      }
      for (const other of gradients.slice(1)) expect(other).toEqual(gradients[0]);
    },
  );

  it.each(
    [...students, 'llama_plain', 'qwen2_plain'].flatMap((name) =>
      (['distill', 'train'] as const)
        .filter((task) => task === 'train' || students.includes(name))
        .map((task) => [name, task] as const),
    ),
  )('agree with differences of the loss, %s %s', async (name, task) => {
    await withModel(name, { task, isa: 'scalar' }, async (model) => {
      const batch = batchOf(model.config.hiddenSize);
      const loss = async () => {
        const { logitsLoss, hiddenLoss } = await model.microStep(batch);
        return logitsLoss + hiddenLoss;
      };
      await loss();
      const gradients = model.read('gradients');
      const parameters = model.read('parameters');
      // Along a random direction in each tensor: f32 losses are exact to about 1e-7, so a step must move the loss by 1e-3.
      for (const { key, offset, length } of model.parameters.trained) {
        const slice = gradients.subarray(offset, offset + length);
        const norm = Math.sqrt(slice.reduce((sum, g) => sum + g * g, 0));
        if (norm < 1e-4) continue;
        const differences = [];
        const step = Math.min(2e-2 / norm, 2e-2);
        for (const sign of [1, -1]) {
          const moved = parameters.slice();
          for (let i = 0; i < length; i++) moved[offset + i]! += (sign * step * slice[i]!) / norm;
          model.write('parameters', moved);
          await model.publish();
          differences.push(await loss());
        }
        const slope = (differences[0]! - differences[1]!) / (2 * step);
        // Curvature of third order and rounding: a few per cent.
        expect(Math.abs(slope / norm - 1), `${key}: slope ${slope}, gradient ${norm}`).toBeLessThan(0.03);
      }
      model.write('parameters', parameters);
    });
  });

  it('sum over micro-steps, and an update starts anew', async () => {
    await withModel('llama_swiftkv_g2', {}, async (model) => {
      const batch = batchOf(model.config.hiddenSize);
      await model.microStep(batch);
      const once = model.read('gradients');
      await model.microStep(batch);
      expect(model.read('gradients')).toEqual(once.map((g) => g + g));
      await model.update({ lr: 0, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0, clip: 1 });
      expect(model.read('gradients').every((g) => g === 0)).toBe(true);
      await model.microStep(batch);
      expect(model.read('gradients')).toEqual(once);
    });
  });
});

it('bf16 gradients are near those of f32', async () => {
  const gradients: ReturnType<TrainingModel['byName']>[] = [];
  for (const dtype of ['f32', 'bf16'] as const) {
    await withModel('llama_swiftkv_g1', { dtype }, async (model) => {
      await model.microStep(batchOf(model.config.hiddenSize));
      gradients.push(model.byName(model.read('gradients')));
    });
  }
  // Each rounding of an input of a product is 2^-9 relative at most; some ten of them follow one another.
  for (const [name, { values }] of gradients[0]!) {
    const other = gradients[1]!.get(name)!.values;
    const error = Math.hypot(...values.map((g, i) => g - other[i]!)) / Math.hypot(...values);
    expect(error, name).toBeLessThan(0.05);
  }
});

it('a NaN weight of the loss changes no parameter', async () => {
  await withModel('llama_swiftkv_g1', {}, async (model) => {
    const batch = batchOf(model.config.hiddenSize);
    batch.weights[3] = Number.NaN;
    const before = model.read('parameters');
    const { logitsLoss } = await model.microStep(batch);
    expect(logitsLoss).toBeNaN();
    const { gradientNorm } = await model.update({
      lr: 1,
      beta1: 0.9,
      beta2: 0.999,
      eps: 1e-8,
      weightDecay: 0.1,
      clip: 1,
    });
    expect(gradientNorm).toBeNaN();
    expect(model.read('parameters')).toEqual(before);
    expect(model.updates).toBe(0);
  });
});

it('leaves no memory behind', async () => {
  const model = await TrainingModel.open(golden('llama_swiftkv_g1'), { task: 'distill', ...common });
  expect(model.device.memory().total).toBeGreaterThan(0);
  await model.dispose();
  await model.dispose();
  expect(native().memory().total).toBe(0);
  await expect(model.microStep(batchOf(32))).rejects.toMatchObject({ code: 'ERR_DISPOSED' });
});

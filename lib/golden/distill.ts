// Distillation against the public trainer: losses, gradients and parameters after three steps on one batch.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TrainingBatch, TrainingModel } from '../train/model.ts';
import type { Comparison } from './compare.ts';
import { readTensors } from './format.ts';

/** The reference's own f32 differs from f64 by 1e-6 of the loss and 1e-6 of the largest gradient. */
const lossBound = 1e-5;
const gradientBound = 1e-3;
/**
 * Adam divides by |g|: elements whose gradient is nearly 0 may move by up to the learning rate either way in each step, so a
 * handful of them may be far off.
 */
const parameterBound = 2e-5;
const maxOutliers = 16;

interface Trajectory {
  logits_loss: number;
  hidden_loss: number;
  loss: number;
  grad_norm?: number;
}

interface Recipe {
  logits_loss_temp: number;
  hidden_loss_mult: number;
  hidden_loss_layer: number;
  lr: number;
  betas: [number, number];
  eps: number;
  weight_decay: number;
  steps: number;
}

export interface DistillSetting {
  /** ISA level. */
  place: string;
  threads: number;
  recompute: boolean;
}

export async function checkDistill(dir: string, name: string, setting: DistillSetting): Promise<Comparison[]> {
  const json = JSON.parse(await readFile(join(dir, `${name}.distill.json`), 'utf8')) as {
    checkpoint: string;
    recipe: Recipe;
    trajectory: Trajectory[];
    trajectory_with_grad_clip_1: Trajectory[];
  };
  const tensors = await readTensors(join(dir, `${name}.distill.safetensors`));
  const { recipe } = json;
  const ids = tensors.get('input_ids')!;
  const [sequences, length] = ids.shape as [number, number];
  const mask = tensors.get('loss_mask')!.values;
  const rows = sequences * length;
  const out: Comparison[] = [];
  for (const clip of [Number.POSITIVE_INFINITY, 1]) {
    const expected = clip === 1 ? json.trajectory_with_grad_clip_1 : json.trajectory;
    const model = await TrainingModel.open(join(dir, json.checkpoint), {
      task: 'distill',
      dtype: 'f32',
      maxRows: rows,
      maxSeqs: sequences,
      maxLength: length,
      recompute: setting.recompute,
      temperature: recipe.logits_loss_temp,
      hiddenLossLayer: recipe.hidden_loss_layer,
      threads: setting.threads,
      isa: setting.place,
    });
    try {
      const batch: TrainingBatch = {
        ids: Int32Array.from(ids.values),
        starts: Int32Array.from({ length: sequences + 1 }, (_, s) => s * length),
        weights: Float32Array.from(mask, (m) => m / rows),
        hiddenWeights: new Float32Array(rows).fill(recipe.hidden_loss_mult / (rows * model.config.hiddenSize)),
      };
      const [beta1, beta2] = recipe.betas;
      const how = clip === 1 ? ', clipped' : '';
      for (let step = 0; step <= recipe.steps; step++) {
        const { logitsLoss, hiddenLoss } = await model.microStep(batch);
        const want = expected[step]!;
        const at = `step ${step}${how}`;
        out.push(relative(`${at} logits loss`, logitsLoss, want.logits_loss, lossBound));
        out.push(relative(`${at} hidden loss`, hiddenLoss, want.hidden_loss, lossBound));
        out.push(relative(`${at} loss`, logitsLoss + hiddenLoss, want.loss, lossBound));
        if (step === 0 && clip !== 1) out.push(...compareGradients(model, tensors));
        if (step === recipe.steps) break;
        const { gradientNorm } = await model.update({
          lr: recipe.lr,
          beta1,
          beta2,
          eps: recipe.eps,
          weightDecay: recipe.weight_decay,
          clip,
        });
        out.push(relative(`${at} gradient norm`, gradientNorm, want.grad_norm!, lossBound));
      }
      if (clip !== 1) out.push(...compareParameters(model, tensors, recipe.lr));
    } finally {
      await model.dispose();
    }
  }
  return out;
}

type Tensors = Awaited<ReturnType<typeof readTensors>>;

function compareGradients(model: TrainingModel, tensors: Tensors): Comparison[] {
  const gradients = model.byName(model.read('gradients'));
  const wanted = [...tensors.keys()].filter((key) => key.startsWith('grad.'));
  const out = [sameNames('trained tensors', [...gradients.keys()], wanted)];
  for (const key of wanted) {
    const expected = tensors.get(key)!.values;
    const actual = gradients.get(key.slice('grad.'.length))?.values ?? new Float32Array(expected.length);
    let [difference, size] = [0, 0];
    expected.forEach((x, i) => {
      difference += (actual[i]! - x) ** 2;
      size += x ** 2;
    });
    const error = Math.sqrt(difference / size);
    const detail = `relative L2 ${error.toPrecision(2)}, at most ${gradientBound}`;
    out.push({ what: key, ok: error <= gradientBound, detail, maxAbs: Math.sqrt(difference) });
  }
  return out;
}

function compareParameters(model: TrainingModel, tensors: Tensors, lr: number): Comparison[] {
  const parameters = model.byName(model.read('parameters'));
  let outliers = 0;
  const out: Comparison[] = [];
  for (const key of [...tensors.keys()].filter((name) => name.startsWith('after.'))) {
    const expected = tensors.get(key)!.values;
    const actual = parameters.get(key.slice('after.'.length))?.values ?? new Float32Array(expected.length);
    let worst = 0;
    expected.forEach((x, i) => {
      const difference = Math.abs(actual[i]! - x);
      if (!(difference <= parameterBound)) outliers++;
      if (!(difference <= worst)) worst = difference;
    });
    const detail = `max ${worst.toPrecision(2)}, at most ${3 * lr}`;
    out.push({ what: key, ok: worst <= 3 * lr, detail, maxAbs: worst });
  }
  const detail = `${outliers}, at most ${maxOutliers}`;
  const what = `elements more than ${parameterBound} off`;
  return [...out, { what, ok: outliers <= maxOutliers, detail, maxAbs: 0 }];
}

function relative(what: string, actual: number, expected: number, bound: number): Comparison {
  const error = Math.abs(actual - expected) / Math.abs(expected);
  const detail = `${actual}, expected ${expected} within ${bound} of it`;
  return { what, ok: error <= bound, detail, maxAbs: Math.abs(actual - expected) };
}

function sameNames(what: string, actual: string[], expected: string[]): Comparison {
  const [a, b] = [actual.toSorted(), expected.map((name) => name.slice('grad.'.length)).toSorted()];
  const ok = JSON.stringify(a) === JSON.stringify(b);
  return { what, ok, detail: ok ? `${a.length}` : `${a}, expected ${b}`, maxAbs: 0 };
}

// The loop of training: micro-steps, updates, evaluation, checkpoints. What it does in a step depends on the options, the
// data and the seed alone, so a run that was stopped goes on as if it had not been.

import { setImmediate } from 'node:timers/promises';
import { SwiftKVError } from '../errors.ts';
import { abortError } from '../model/abort.ts';
import type { TrainingBatch, TrainingModel } from './model.ts';

/** Rows of some sequences, from a stream of data. */
export interface PackedBatch {
  ids: Int32Array;
  /** [sequences + 1] */
  starts: Int32Array;
  /** [rows] how much predicting the next token counts; 0 in the last row of a sequence */
  weights: Float32Array;
}

export interface BatchStream {
  next(): PackedBatch;
  /** A JSON value from which the stream goes on. */
  state(): unknown;
}

export interface TrainerOptions {
  /** Updates in all. */
  steps: number;
  /** Micro-steps of one update. */
  accumulation: number;
  learningRate: (step: number) => number;
  beta1: number;
  beta2: number;
  eps: number;
  weightDecay: number;
  clip: number;
  /** Of distillation: what the hidden states' distance counts beside the logits' loss. */
  hiddenLossMult: number;
  /** Updates between evaluations, 0: none. */
  evaluateEvery: number;
  evaluate?: ((step: number) => Promise<Readonly<Record<string, number>>>) | undefined;
  /** Updates between checkpoints, 0: only at the end. */
  checkpointEvery: number;
  saveCheckpoint?: ((state: TrainerState) => Promise<string>) | undefined;
  signal?: AbortSignal | undefined;
}

/** Beside the arrays of the model, all that a run needs to go on. */
export interface TrainerState {
  /** Updates that are done. */
  step: number;
  tokens: number;
  data: unknown;
}

export type TrainEvent =
  | {
      type: 'step';
      step: number;
      steps: number;
      loss: number;
      logitsLoss: number;
      hiddenLoss: number;
      gradientNorm: number;
      learningRate: number;
      /** Since the beginning, resumed parts included. */
      tokens: number;
      /** Of this update. */
      tokensPerSecond: number;
      /** Seconds. */
      eta: number;
    }
  | { type: 'evaluation'; step: number; values: Readonly<Record<string, number>> }
  | { type: 'checkpoint'; step: number; path: string };

/**
 * Runs from `state` to the last step. Each update's event comes when it is done. An aborted signal lets the micro-step
 * in flight end, saves a checkpoint and throws ERR_ABORTED.
 * @throws ERR_NUMERIC when a loss or a gradient is not a number: parameters and the last checkpoint are as before
 */
export async function* runTrainer(
  model: TrainingModel,
  data: BatchStream,
  options: TrainerOptions,
  start: TrainerState = { step: 0, tokens: 0, data: data.state() },
): AsyncGenerator<TrainEvent, TrainerState> {
  let { step, tokens } = start;
  const state = (): TrainerState => ({ step, tokens, data: data.state() });
  const { signal, saveCheckpoint, evaluate } = options;
  let saved = -1;
  const pace = new Pace();
  const save = async (): Promise<TrainEvent | null> => {
    if (saveCheckpoint === undefined || saved === step) return null;
    saved = step;
    return { type: 'checkpoint', step, path: await saveCheckpoint(state()) };
  };
  while (step < options.steps) {
    if (signal?.aborted) {
      const event = await save();
      if (event !== null) yield event;
      throw abortError(signal);
    }
    const began = performance.now();
    const batches = Array.from({ length: options.accumulation }, () => data.next());
    const { logitsLoss, hiddenLoss, rows } = await gradientsOf(model, batches, options);
    const learningRate = options.learningRate(step);
    const { beta1, beta2, eps, weightDecay, clip } = options;
    const { gradientNorm } = await model.update({ lr: learningRate, beta1, beta2, eps, weightDecay, clip });
    const loss = logitsLoss + hiddenLoss;
    if (!Number.isFinite(loss) || !Number.isFinite(gradientNorm)) {
      throw new SwiftKVError(
        'ERR_NUMERIC',
        `Step ${step + 1}: the loss is ${loss} and the norm of its gradient ${gradientNorm}; nothing was changed by it. ` +
          'Go on from the last checkpoint with a lower learning rate or with clipping',
      );
    }
    step++;
    tokens += rows;
    const tokensPerSecond = (rows / (performance.now() - began)) * 1000;
    const eta = pace.eta(performance.now() - began, options.steps - step);
    const event = { step, steps: options.steps, loss, logitsLoss, hiddenLoss, gradientNorm, learningRate, tokens };
    yield { type: 'step', ...event, tokensPerSecond, eta };
    const isLast = step === options.steps;
    if (evaluate !== undefined && options.evaluateEvery > 0 && (isLast || step % options.evaluateEvery === 0)) {
      yield { type: 'evaluation', step, values: await evaluate(step) };
    }
    if (isLast || (options.checkpointEvery > 0 && step % options.checkpointEvery === 0)) {
      const checkpoint = await save();
      if (checkpoint !== null) yield checkpoint;
    }
    await setImmediate(); // timers and signals get their turn
  }
  return state();
}

/** The gradients of one update. Losses are means over all its tokens (distillation) or over what counts (training). */
async function gradientsOf(
  model: TrainingModel,
  batches: readonly PackedBatch[],
  { hiddenLossMult }: Pick<TrainerOptions, 'hiddenLossMult'>,
): Promise<{ logitsLoss: number; hiddenLoss: number; rows: number }> {
  const rows = batches.reduce((sum, { ids }) => sum + ids.length, 0);
  let [logitsLoss, hiddenLoss] = [0, 0];
  for (const [i, batch] of scale(model, batches, hiddenLossMult).entries()) {
    const result = await model.microStep(batch);
    logitsLoss += result.logitsLoss;
    hiddenLoss += result.hiddenLoss;
    if (i < batches.length - 1) await setImmediate();
  }
  return { logitsLoss, hiddenLoss, rows };
}

/** Weights that make sums means: each token 1 / all tokens in distillation, else its share of all weights. */
export function scale(
  model: Pick<TrainingModel, 'options' | 'config'>,
  batches: readonly PackedBatch[],
  hiddenLossMult: number,
): TrainingBatch[] {
  const rows = batches.reduce((sum, { ids }) => sum + ids.length, 0);
  const counted = batches.reduce((sum, { weights }) => sum + weights.reduce((a, b) => a + b, 0), 0);
  const distil = model.options.task === 'distill';
  const whole = distil ? rows : counted || 1;
  const hidden = hiddenLossMult / (rows * model.config.hiddenSize);
  return batches.map(({ ids, starts, weights }) => ({
    ids,
    starts,
    weights: weights.map((w) => w / whole),
    ...(distil && { hiddenWeights: new Float32Array(ids.length).fill(hidden) }),
  }));
}

/** Seconds that are left, from the median of the last steps. */
class Pace {
  readonly #recent: number[] = [];

  eta(ms: number, steps: number): number {
    this.#recent.push(ms);
    if (this.#recent.length > 20) this.#recent.shift();
    const sorted = this.#recent.toSorted((a, b) => a - b);
    return (sorted[Math.floor(sorted.length / 2)]! * steps) / 1000;
  }
}

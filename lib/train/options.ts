// Options of runs, their defaults and their limits.

import { SwiftKVError } from '../errors.ts';
import type { ComputeDType } from '../model/forward.ts';
import type { DataFile } from './data/index.ts';
import { checkSchedule, type ScheduleName } from './schedule.ts';

export interface RunOptions {
  /** Files of training data (.txt, .jsonl), each with its share of the tokens if wanted. */
  data: readonly (string | DataFile)[];
  /** The folder of the trained model; it must not exist or be empty. */
  out: string;
  /** Updates. */
  steps: number;
  /** Tokens of a micro-step, at most; default 4096. */
  tokensPerBatch?: number;
  /** Micro-steps of an update; default 1. */
  accumulation?: number;
  /** Tokens of a sequence, at most; default 1024. */
  maxLength?: number;
  /** Sequences of a micro-step, at most; default 64. */
  maxSeqs?: number;
  seed?: number;
  learningRate?: number;
  schedule?: ScheduleName;
  /** Share of the steps; default 0.05. */
  warmup?: number;
  /** Of the cosine schedule: share of the learning rate at the end. */
  floor?: number;
  beta1?: number;
  beta2?: number;
  eps?: number;
  /** Of matrices. */
  weightDecay?: number;
  /** Norm that the gradient is clipped to; Infinity: none. */
  clip?: number;
  /** What predicting a token of an answer counts, of the rest of such a document, and of a plain text. */
  answerWeight?: number;
  contextWeight?: number;
  textWeight?: number;
  /** Of matrix products; sums and parameters are f32 either way. Default bf16. */
  dtype?: ComputeDType;
  /** Compute activations of each layer again instead of keeping them: less memory, a third more work. Default false. */
  recompute?: boolean;
  evaluationData?: readonly (string | DataFile)[] | undefined;
  /** Updates between evaluations; default 100. */
  evaluateEvery?: number;
  /** Micro-batches of an evaluation; default 8. */
  evaluationBatches?: number;
  /** Updates between checkpoints; default 100. */
  checkpointEvery?: number;
  /** Put a model that can be loaded into each checkpoint. Default false. */
  checkpointModels?: boolean;
  /** Go on from the newest checkpoint, if there is one. */
  resume?: boolean;
  threads?: number | undefined;
  /** ISA level of the kernels; default: the best. */
  isa?: string | undefined;
  signal?: AbortSignal | undefined;
}

export type TrainRunOptions = RunOptions;

export interface DistillRunOptions extends RunOptions {
  /** Layers that keep their own K and V: a count, or a share such as `50%`. */
  kvLayers?: number | string | undefined;
  /** Later layers that share one cache; default 1. */
  groupSize?: number | undefined;
  /** Softens the distributions that are compared; default 2. */
  temperature?: number;
  /** What the distance of the hidden states counts; default 1. */
  hiddenLossMult?: number;
  /** The layer whose inputs are compared, -2 (default) being the last one's; null: none. */
  hiddenLossLayer?: number | null;
  /** Which tokens' distributions are compared: those of answers (and of plain texts), or all. Default answers. */
  lossOn?: 'answers' | 'all';
  /** Write only SwiftKV's own tensors, and a config that names the base; default: for an embedded base. */
  variant?: boolean | undefined;
}

const common = {
  tokensPerBatch: 4096,
  accumulation: 1,
  maxLength: 1024,
  maxSeqs: 64,
  seed: 0,
  warmup: 0.05,
  floor: 0,
  eps: 1e-8,
  clip: 1,
  answerWeight: 1,
  contextWeight: 0,
  textWeight: 1,
  dtype: 'bf16',
  recompute: false,
  evaluateEvery: 100,
  evaluationBatches: 8,
  checkpointEvery: 100,
  checkpointModels: false,
  resume: false,
} as const;

/** Of the public recipes. */
export const distillDefaults = {
  ...common,
  learningRate: 2e-4,
  schedule: 'linear',
  beta1: 0.9,
  beta2: 0.999,
  weightDecay: 0,
  temperature: 2,
  hiddenLossMult: 1,
  hiddenLossLayer: -2,
  lossOn: 'answers',
} as const;

export const trainDefaults = {
  ...common,
  learningRate: 1e-3,
  schedule: 'cosine',
  floor: 0.1,
  beta1: 0.9,
  beta2: 0.95,
  weightDecay: 0.1,
} as const;

type Checked = RunOptions & Partial<Pick<DistillRunOptions, 'temperature' | 'hiddenLossMult' | 'hiddenLossLayer'>>;

/** @throws ERR_INVALID_ARGUMENT, naming the option */
export function checkRunOptions(options: Checked & Required<Pick<RunOptions, 'learningRate' | 'schedule'>>): void {
  const expect = (good: boolean, name: keyof Checked, what: string) => {
    if (good) return;
    throw new SwiftKVError(
      'ERR_INVALID_ARGUMENT',
      `Expected ${name} to be ${what} but received ${JSON.stringify(options[name]) ?? options[name]}`,
    );
  };
  const integer = (name: keyof Checked, least: number) => {
    const value = options[name];
    expect(Number.isSafeInteger(value) && (value as number) >= least, name, `an integer of at least ${least}`);
  };
  const number = (name: keyof Checked, least: number, most = Number.POSITIVE_INFINITY) => {
    const value = options[name] as number;
    const range = most === Number.POSITIVE_INFINITY ? `of at least ${least}` : `from ${least} to ${most}`;
    expect(typeof value === 'number' && value >= least && value <= most, name, `a number ${range}`);
  };
  expect(Array.isArray(options.data) && options.data.length > 0, 'data', 'a list of at least one file');
  expect(typeof options.out === 'string' && options.out !== '', 'out', 'a folder');
  for (const name of [
    'steps',
    'tokensPerBatch',
    'accumulation',
    'maxLength',
    'maxSeqs',
    'evaluationBatches',
  ] as const) {
    integer(name, name === 'maxLength' || name === 'tokensPerBatch' ? 2 : 1);
  }
  for (const name of ['seed', 'evaluateEvery', 'checkpointEvery'] as const) integer(name, 0);
  for (const name of ['answerWeight', 'contextWeight', 'textWeight', 'weightDecay', 'clip', 'eps'] as const) {
    number(name, 0);
  }
  for (const name of ['beta1', 'beta2'] as const) number(name, 0, 1 - 1e-9);
  for (const name of ['warmup', 'floor'] as const) number(name, 0, 1);
  expect((options.clip as number) > 0, 'clip', 'a number above 0');
  expect(
    options.maxLength! <= options.tokensPerBatch!,
    'maxLength',
    `at most tokensPerBatch ${options.tokensPerBatch}`,
  );
  expect(options.dtype === 'f32' || options.dtype === 'bf16', 'dtype', 'f32 or bf16');
  if (options.temperature !== undefined) number('temperature', 1e-3);
  if (options.hiddenLossMult !== undefined) number('hiddenLossMult', 0);
  const { hiddenLossLayer } = options;
  if (hiddenLossLayer !== undefined && hiddenLossLayer !== null) {
    expect(
      Number.isSafeInteger(hiddenLossLayer) && hiddenLossLayer !== -1,
      'hiddenLossLayer',
      'a layer, or -2, -3, ...',
    );
  }
  const { steps, warmup, learningRate, schedule } = options;
  checkSchedule({ steps, warmup: { ratio: warmup! }, lr: learningRate, schedule });
}

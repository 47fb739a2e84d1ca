// The programs of training: a micro-step (forward, loss, gradients) of distillation or of training from the tokens, and
// the update that follows some of them. Rows are tokens; each sequence attends to itself only.

import { SwiftKVError } from '../errors.ts';
import { type ModelConfig, numDistinctCaches } from '../model/config.ts';
import type { ComputeDType } from '../model/forward.ts';
import { embedRows, finalNorm, half, laterLayer, ordinaryLayer, projectLaterCaches } from '../model/llama.ts';
import { type Program, ProgramBuilder, type Ref } from '../model/program-builder.ts';
import type { WeightKey } from '../model/weights.ts';
import type { TrainedWeight } from './parameters.ts';
import { Tape } from './tape.ts';

export interface MicroStepOptions {
  config: ModelConfig;
  dtype: ComputeDType;
  trained: readonly TrainedWeight[];
  /** Keep only what enters each layer, and compute the rest again for the gradients. */
  recompute: boolean;
  /** false: only the loss, without a record of how it came about. */
  gradients: boolean;
  /** Names of tensors to read back; `logits` are made for that only. */
  taps?: Iterable<string>;
}

export interface DistillOptions extends MicroStepOptions {
  temperature: number;
  /** The hidden states that are compared: the input of this layer. null: none are. */
  hiddenLayer: number | null;
}

export interface MicroStep {
  program: Program;
  /** Weights whose transposes it reads. */
  transposed: ReadonlySet<WeightKey>;
  /** Caches of its KV pool, one spec for all. */
  numCaches: number;
}

/**
 * Teacher and student are one set of weights. Layers before the cut run once; the teacher's later layers run without a
 * record and share one cache. Results: `logits_loss` and, with a hidden layer, `hidden_loss`, [T] each.
 */
export function distillStep(options: DistillOptions): MicroStep {
  const { config: c, dtype, temperature, gradients } = options;
  const hiddenLayer = gradients ? options.hiddenLayer : null;
  const n = c.numKvLayers;
  if (n >= c.numLayers) {
    throw new SwiftKVError('ERR_INVALID_ARGUMENT', 'Expected a SwiftKV model to distil: this one has no later layers');
  }
  const m = { config: c, dtype, fp8Activations: false };
  const b = makeTape(options);
  const rows = half(b, m, 'T');
  const groups = numDistinctCaches(c) - n;
  const spare = b.cache(groups);

  const x = embedRows(b, m);
  for (let l = 0; l < n; l++) ordinaryLayer(b, m, rows, l, x, spare);

  const teacher = b.buffer('f32', ['T', c.hiddenSize]);
  const teacherHidden = b.buffer('f32', ['T', c.hiddenSize]);
  const teacherOut = b.buffer(dtype, ['T', c.hiddenSize]);
  b.copy_rows({ in: x, out: teacher });
  for (let l = n; l < c.numLayers; l++) {
    if (l === hiddenLayer) b.copy_rows({ in: teacher, out: teacherHidden });
    ordinaryLayer(b, m, rows, l, teacher, spare);
  }
  finalNorm(b, m, teacher, teacherOut);

  const studentOut = b.buffer(dtype, ['T', c.hiddenSize]);
  b.recordIf(gradients, () => {
    projectLaterCaches(b, m, x, b.caches(0, groups));
    for (let l = n; l < c.numLayers; l++) {
      if (l === hiddenLayer) {
        const loss = b.result('hidden_loss', 'f32', ['T']);
        b.hidden_loss({ x, target: teacherHidden, weights: b.state('hidden weights', ['T']), loss });
      }
      b.segment(x, () => laterLayer(b, m, rows, l, x, b.cache(Math.floor((l - n) / c.groupSize))));
    }
    finalNorm(b, m, x, studentOut);
  });
  b.tap('norm', studentOut);
  b.tap('teacher.norm', teacherOut);

  tapLogits(b, c, studentOut);

  const student = b.read(studentOut);
  const dStudent = b.acquire('f32', ['T', c.hiddenSize]);
  const head = b.constant('head');
  b.emit(
    'distill_head',
    {
      student,
      teacher: b.read(teacherOut),
      w: head,
      wt: b.transposeOf(head),
      weights: b.state('token weights', ['T']),
      loss: b.result('logits_loss', 'f32', ['T']),
      dStudent,
    },
    { temperature },
  );
  if (gradients) {
    b.setGradient(student, dStudent);
    b.backward();
  }
  return { program: b.build(), transposed: b.transposed, numCaches: groups + 1 };
}

/** Next-token cross-entropy, weighted by token. Result: `logits_loss`, [T]. A SwiftKV model trains in student mode. */
export function trainStep(options: MicroStepOptions): MicroStep {
  const { config: c, dtype, trained, gradients } = options;
  const n = c.numKvLayers;
  const m = { config: c, dtype, fp8Activations: false };
  const b = makeTape(options);
  const rows = half(b, m, 'T');
  const caches = numDistinctCaches(c);
  const out = b.buffer(dtype, ['T', c.hiddenSize]);
  b.recordIf(gradients, () => {
    const x = embedRows(b, m);
    for (let l = 0; l < n; l++) b.segment(x, () => ordinaryLayer(b, m, rows, l, x, b.cache(l)));
    if (n < c.numLayers) projectLaterCaches(b, m, x, b.caches(n, caches - n));
    for (let l = n; l < c.numLayers; l++) {
      b.segment(x, () => laterLayer(b, m, rows, l, x, b.cache(n + Math.floor((l - n) / c.groupSize))));
    }
    finalNorm(b, m, x, out);
  });
  b.tap('norm', out);
  tapLogits(b, c, out);

  const a = b.read(out);
  const da = b.acquire('f32', ['T', c.hiddenSize]);
  const head = b.constant('head');
  const trainsHead = trained.some(({ key }) => key === 'head');
  b.emit('cross_entropy_head', {
    a,
    w: head,
    wt: b.transposeOf(head),
    ids: b.batch('ids'),
    weights: b.state('token weights', ['T']),
    loss: b.result('logits_loss', 'f32', ['T']),
    da,
    ...(trainsHead && gradients && { dw: b.gradientOfWeight(head) }),
  });
  if (gradients) {
    b.setGradient(a, da);
    b.backward();
  }
  return { program: b.build(), transposed: b.transposed, numCaches: caches };
}

/** The head's product on all rows, where it is asked for. */
function tapLogits(b: Tape, c: ModelConfig, a: Ref<'buffer'>): void {
  if (!b.isTapped('logits')) return;
  const logits = b.result('logits', 'f32', ['T', c.vocabSize]);
  b.emit('linear', { a: b.read(a), w: b.constant('head'), y: logits }, { accumulate: false });
}

function makeTape({ config: c, dtype, trained, recompute, taps = [] }: MicroStepOptions): Tape {
  if (c.qkNorm) {
    throw new SwiftKVError('ERR_UNSUPPORTED', `Training ${c.modelType} is not supported: expected llama or qwen2`);
  }
  return new Tape({
    dtype,
    numHeads: c.numHeads,
    numKvHeads: c.numKvHeads,
    headDim: c.headDim,
    trained: new Map(trained.map(({ key, shape }) => [key, shape])),
    recompute,
    taps,
  });
}

class UpdateBuilder extends ProgramBuilder {
  step(op: string, operands: Readonly<Record<string, Ref | undefined>>): void {
    this.op(op, operands);
  }
}

/**
 * AdamW on all parameters, which lie in one f32 array, then what products read is made of them. `decayed`: how many of
 * the elements come first and decay. Reads the states `hyper decayed`, `hyper kept`; writes `squares`.
 */
export function updateProgram(
  trained: readonly TrainedWeight[],
  decayed: number,
  total: number,
  transposed: ReadonlySet<WeightKey>,
): Program {
  const b = new UpdateBuilder();
  const squares = b.state('squares', [1]);
  b.step('sum_squares', { x: b.state('gradients', [total]), out: squares });
  const ranges = [
    ['decayed', decayed],
    ['kept', total - decayed],
  ] as const;
  for (const [name, count] of ranges) {
    if (count === 0) continue;
    const part = (what: string) => b.state(`${what} ${name}`, [count]);
    b.step('adamw', {
      hyper: b.state(`hyper ${name}`, [8]),
      squares,
      grad: part('gradients'),
      m: part('m'),
      v: part('v'),
      x: part('parameters'),
    });
  }
  publish(b, trained, transposed);
  return b.build();
}

/** Only the second half: what products read, made of the parameters. */
export function publishProgram(trained: readonly TrainedWeight[], transposed: ReadonlySet<WeightKey>): Program {
  const b = new UpdateBuilder();
  publish(b, trained, transposed);
  return b.build();
}

function publish(b: UpdateBuilder, trained: readonly TrainedWeight[], transposed: ReadonlySet<WeightKey>): void {
  for (const { key, kind, shape } of trained) {
    // A vector is a row.
    const rows = kind === 'vector' ? [1, shape[0]!] : shape;
    const from = b.state(`parameters of ${key}`, rows);
    const to = b.state(key, rows);
    if (kind === 'vector') b.step('copy_rows', { in: from, out: to });
    else if (kind === 'table') b.step('cast_rows', { in: from, out: to });
    else {
      const other = transposed.has(key) ? b.state(`${key} transposed`, [shape[1]!, shape[0]!]) : undefined;
      b.step('pack_weight', { src: from, dst: to, transposed: other });
    }
  }
}

// A model in training: its weights, the flat arrays of what is trained, and the programs that work on them.

import { SwiftKVError, toSwiftKVError } from '../errors.ts';
import { type OpenedBackend, openBackend } from '../kernels/backend.ts';
import { availableMemory } from '../machine/memory.ts';
import type { ModelConfig } from '../model/config.ts';
import { resolveModel } from '../model/embedded.ts';
import type { ComputeDType } from '../model/forward.ts';
import { blockTokens } from '../model/kv-cache.ts';
import { makeRopeTable } from '../model/load.ts';
import { allocateWeights, readWeights } from '../model/load-weights.ts';
import { openModel } from '../model/open-model.ts';
import type { Bindings } from '../model/program.ts';
import { StepProgram } from '../model/step-program.ts';
import { planWeights } from '../model/weight-plan.ts';
import type { TransposedKey, WeightKey } from '../model/weights.ts';
import type { NativeBatch, NativeDevice, NativeTensor } from '../native/binding.ts';
import { native } from '../native/load.ts';
import { requireMemory, trainingBytes } from './memory.ts';
import type { Parameters } from './parameters.ts';
import { planTraining } from './plan.ts';
import { type MicroStep, publishProgram, updateProgram } from './programs.ts';
import { type FlatArray, TrainingMemory } from './training-memory.ts';

export interface TrainingModelOptions {
  /** `distill`: SwiftKV's own tensors, from the teacher in the same checkpoint. `train`: all parameters, from tokens. */
  task: 'distill' | 'train';
  dtype: ComputeDType;
  /** Tokens of one micro-step, at most. */
  maxRows: number;
  /** Sequences of one micro-step, at most. */
  maxSeqs: number;
  /** Tokens of one sequence, at most. */
  maxLength: number;
  recompute: boolean;
  /** Of distillation: softens both distributions. */
  temperature?: number;
  /** Of distillation: the layer whose inputs are compared, -2 being the last layer's; null: none. */
  hiddenLossLayer?: number | null;
  threads?: number | undefined;
  /** ISA level of the kernels; default: the best. */
  isa?: string | undefined;
  signal?: AbortSignal | undefined;
  /** Names of tensors to read back after a micro-step. */
  taps?: Iterable<string>;
}

/** Rows of one micro-step: sequences one after the other. */
export interface TrainingBatch {
  /** [rows] */
  ids: Int32Array;
  /** [sequences + 1] first row of each, ascending from 0 to rows */
  starts: Int32Array;
  /** [rows] what the loss of each row counts */
  weights: Float32Array;
  /** [rows] what the distance of each row's hidden state counts, for each element; distillation only */
  hiddenWeights?: Float32Array;
}

export interface MicroStepResult {
  /** Sum over rows of weight times loss. */
  logitsLoss: number;
  hiddenLoss: number;
  ms: number;
}

export interface UpdateOptions {
  lr: number;
  beta1: number;
  beta2: number;
  eps: number;
  /** Of matrices; vectors never decay. */
  weightDecay: number;
  /** Norm that the gradient is clipped to; Infinity: none. */
  clip: number;
}

interface Parts {
  config: ModelConfig;
  parameters: Parameters;
  opened: OpenedBackend;
  options: TrainingModelOptions;
  tensors: ReadonlyMap<string, NativeTensor>;
  batch: NativeBatch;
  micro: StepProgram;
  update: StepProgram;
  publish: StepProgram;
  makeEvaluation: () => StepProgram;
}

export class TrainingModel {
  readonly config: ModelConfig;
  readonly parameters: Parameters;
  readonly device: NativeDevice;
  readonly level: string;
  readonly threads: number;
  readonly options: TrainingModelOptions;
  readonly #tensors: ReadonlyMap<string, NativeTensor>;
  readonly #batch: NativeBatch;
  readonly #micro: StepProgram;
  readonly #update: StepProgram;
  readonly #publish: StepProgram;
  readonly #makeEvaluation: () => StepProgram;
  #evaluation: StepProgram | null = null;
  /** Updates so far. */
  updates = 0;
  #disposed = false;

  private constructor(parts: Parts) {
    this.config = parts.config;
    this.parameters = parts.parameters;
    this.device = parts.opened.native;
    this.level = parts.opened.level;
    this.threads = parts.opened.threads;
    this.options = parts.options;
    this.#tensors = parts.tensors;
    this.#batch = parts.batch;
    this.#micro = parts.micro;
    this.#update = parts.update;
    this.#publish = parts.publish;
    this.#makeEvaluation = parts.makeEvaluation;
  }

  /**
   * @param source a folder or `embedded:NAME`; to distil, of a SwiftKV model that still has its teacher's projections
   * @throws what opening a model throws; ERR_UNSUPPORTED: a family or weights that cannot be trained; ERR_OUT_OF_MEMORY
   *   with the sum, before anything is allocated
   */
  static async open(source: string, options: TrainingModelOptions): Promise<TrainingModel> {
    const { checkpoint, config } = await openModel(resolveModel(source));
    const training = planTraining(config, options);
    const { targets, parameters, capacity, numBlocks, microStep: step, evaluation } = training;
    const plan = planWeights(targets, checkpoint.tensors, options.dtype, checkpoint.dir);
    if (plan.matrixDTypes.some((dtype) => dtype !== options.dtype)) {
      throw new SwiftKVError(
        'ERR_UNSUPPORTED',
        `${checkpoint.dir}: training needs weights in 16 or 32 bits, but some are ${plan.matrixDTypes.join(' and ')}; ` +
          'use the checkpoint that they were quantized from',
      );
    }
    const binding = native();
    const opened = openBackend(binding, { device: 'cpu', threads: options.threads, isa: options.isa });
    const device = opened.native;
    try {
      const resolved = { ...options, threads: opened.threads, isa: opened.level };
      requireMemory(trainingBytes(config, resolved, training), availableMemory());
      const weights = await allocateWeights(binding, device, plan.tensors, options.signal);
      await readWeights(binding, device, plan.segments, plan.sourceBytes, weights, { signal: options.signal });
      const memory = new TrainingMemory(binding, device, config, parameters, options);
      const tensors = memory.tensors;
      for (const [key, tensor] of weights) tensors.set(key, tensor);
      tensors.set('rope', await makeRopeTable(binding, device, { config }, options.maxLength));
      for (const key of step.transposed) await memory.transpose(key);
      await memory.readParameters(checkpoint.tensors);

      const { numKvHeads, headDim } = config;
      const cache = { numKvHeads, headDim, dtype: options.dtype, scales: 'none' } as const;
      const pool = binding.kvPool(device, numBlocks, new Array(step.numCaches).fill(cache));
      const bindings: Bindings = {
        constants: tensors as ReadonlyMap<WeightKey | TransposedKey, NativeTensor>,
        pool,
        samplers: binding.samplerTable(device, 1, config.vocabSize),
        states: memory.states(step.transposed),
      };
      const { trained, decayed, total } = parameters;
      const make = (name: string, program: MicroStep['program']) =>
        new StepProgram(binding, device, name, program, capacity, bindings);
      const model = new TrainingModel({
        config,
        parameters,
        opened,
        options,
        tensors,
        batch: binding.batch(device, capacity),
        micro: make(options.task, step.program),
        update: make('update', updateProgram(trained, decayed, total, step.transposed)),
        publish: make('publish', publishProgram(trained, step.transposed)),
        makeEvaluation: () => make('evaluation', evaluation.program),
      });
      await device.touch();
      await model.publish();
      return model;
    } catch (error) {
      device.close();
      throw toSwiftKVError(error);
    }
  }

  /** Forward, loss and gradients of some rows; the gradients are added to those of micro-steps before. */
  async microStep(rows: TrainingBatch): Promise<MicroStepResult> {
    this.#requireAlive();
    const batch = this.#batch;
    fillBatch(batch, rows, this.options);
    this.#write('token weights', rows.weights);
    if (rows.hiddenWeights !== undefined) this.#write('hidden weights', rows.hiddenWeights);
    const { ms } = await this.#micro.run(batch);
    const hidden = this.options.task === 'distill' && this.options.hiddenLossLayer !== null;
    return {
      logitsLoss: sum(this.#micro.read('logits_loss', rows.ids.length)),
      hiddenLoss: hidden ? sum(this.#micro.read('hidden_loss', rows.ids.length)) : 0,
      ms,
    };
  }

  /** The loss of some rows, sum over rows of weight times loss. Changes nothing. */
  async evaluate(rows: TrainingBatch): Promise<number> {
    this.#requireAlive();
    this.#evaluation ??= this.#makeEvaluation();
    fillBatch(this.#batch, rows, this.options);
    this.#write('token weights', rows.weights);
    await this.#evaluation.run(this.#batch);
    return sum(this.#evaluation.read('logits_loss', rows.ids.length));
  }

  /** One step of AdamW with the gradients that have been summed up, which are then 0. NaN changes nothing. */
  async update(options: UpdateOptions): Promise<{ gradientNorm: number }> {
    this.#requireAlive();
    const { lr, beta1, beta2, eps, weightDecay, clip } = options;
    const t = this.updates + 1;
    const hyper = [lr, beta1, beta2, eps, weightDecay, 1 - beta1 ** t, 1 - beta2 ** t, clip];
    this.#write('hyper decayed', Float32Array.from(hyper));
    hyper[4] = 0;
    this.#write('hyper kept', Float32Array.from(hyper));
    this.#batch.counts.fill(0);
    await this.#update.run(this.#batch);
    const gradientNorm = Math.sqrt(this.#tensors.get('squares')!.readFloats()[0]!);
    if (Number.isFinite(gradientNorm)) this.updates = t;
    return { gradientNorm };
  }

  /** Makes what products read from the parameters, after they were written from outside. */
  async publish(): Promise<void> {
    this.#batch.counts.fill(0);
    await this.#publish.run(this.#batch);
  }

  /** A flat array as it is now. */
  read(name: FlatArray): Float32Array {
    this.#requireAlive();
    return this.#tensors.get(name)!.readFloats();
  }

  /** Replaces a flat array; after `parameters`, publish. */
  write(name: FlatArray, values: Float32Array): void {
    this.#requireAlive();
    this.#tensors.get(name)!.writeFloats(values);
  }

  /** A tap's rows of the last micro-step, or of the last evaluation. */
  readTap(name: string, rows: number, of: 'microStep' | 'evaluation' = 'microStep'): Float32Array {
    return (of === 'microStep' ? this.#micro : this.#evaluation!).read(name, rows);
  }

  /** Slices of a flat array by the names of the checkpoint's tensors. */
  byName(values: Float32Array): Map<string, { values: Float32Array; shape: readonly number[] }> {
    const parts = this.parameters.trained.flatMap((weight) => weight.parts);
    return new Map(
      parts.map(({ name, offset, length, shape }) => [
        name,
        { values: values.subarray(offset, offset + length), shape },
      ]),
    );
  }

  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await Promise.all([this.#micro.idle(), this.#update.idle(), this.#publish.idle(), this.#evaluation?.idle()]);
    this.device.close();
    this.#batch.dispose();
  }

  #write(name: string, values: Float32Array): void {
    this.#tensors.get(name)!.write(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  }

  #requireAlive(): void {
    if (this.#disposed) throw new SwiftKVError('ERR_DISPOSED', 'The model in training has been disposed of');
  }
}

function sum(values: Float32Array): number {
  return values.reduce((total, value) => total + value, 0);
}

/** Every sequence from position 0 on, with blocks of its own. */
function fillBatch(batch: NativeBatch, { ids, starts, weights }: TrainingBatch, o: TrainingModelOptions): void {
  const sequences = starts.length - 1;
  if (ids.length > o.maxRows || sequences > o.maxSeqs || weights.length !== ids.length) {
    throw new SwiftKVError(
      'ERR_INVALID_ARGUMENT',
      `Expected at most ${o.maxRows} tokens in ${o.maxSeqs} sequences, each token with a weight, but received ` +
        `${ids.length} tokens, ${sequences} sequences and ${weights.length} weights`,
    );
  }
  const { maxBlocksPerSeq } = batch.capacity;
  batch.ids.set(ids);
  let block = 0;
  for (let s = 0; s < sequences; s++) {
    const start = starts[s]!;
    const length = starts[s + 1]! - start;
    if (length > o.maxLength) {
      throw new SwiftKVError(
        'ERR_INVALID_ARGUMENT',
        `Expected sequences of at most ${o.maxLength} tokens but received ${length}`,
      );
    }
    batch.queryStartT[s] = start;
    batch.contextLenT[s] = length;
    batch.tableRowT[s] = s;
    for (let i = 0; i < length; i++) {
      if (i % blockTokens === 0) batch.blockTables[s * maxBlocksPerSeq + i / blockTokens] = block++;
      batch.positionsT[start + i] = i;
      batch.slotsT[start + i] = (block - 1) * blockTokens + (i % blockTokens);
    }
  }
  batch.queryStartT[sequences] = ids.length;
  batch.counts.set([ids.length, 0, 0, sequences, 0, 0, 0]);
}

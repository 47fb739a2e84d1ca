// A model on a device: weights, KV pool, samplers and the programs that read them. Runs the steps the engine fills in.

import type { JsonObject } from '../checkpoint/json.ts';
import { SwiftKVError, toSwiftKVError } from '../errors.ts';
import type {
  BatchCapacity,
  NativeBatch,
  NativeBinding,
  NativeDevice,
  NativeKVPool,
  NativeSamplerTable,
  SamplerState,
  StepResult,
} from '../native/binding.ts';
import type { Architecture } from './architecture.ts';
import type { ModelConfig } from './config.ts';
import type { ComputeDType } from './forward.ts';
import type { LoadedModel } from './load.ts';
import type { Weights } from './load-weights.ts';
import type { ModelInfo, ModelMemory } from './model-info.ts';
import { buildForward } from './program.ts';
import type { StepBatch } from './runner.ts';
import { type Score, scoreSequence } from './score.ts';
import { StepProgram } from './step-program.ts';

/** Everything that a runner is made of; it takes the device over and closes it. */
export interface RunnerParts {
  binding: NativeBinding;
  device: NativeDevice;
  architecture: Architecture;
  config: ModelConfig;
  dtype: ComputeDType;
  fp8Activations: boolean;
  /** The rope table among them. */
  weights: Weights;
  pool: NativeKVPool;
  capacity: BatchCapacity;
  maxModelLen: number;
  kvBytesPerToken: number;
  tokenizerDir: string | null;
  generationConfig: JsonObject | null;
  /** `bytes.workspace` is filled in from the program. */
  info: ModelInfo;
}

export class NativeModelRunner implements LoadedModel {
  readonly config: ModelConfig;
  readonly capacity: BatchCapacity;
  readonly batches: readonly [NativeBatch, NativeBatch];
  readonly numBlocks: number;
  readonly kvBytesPerToken: number;
  readonly maxModelLen: number;
  readonly tokenizerDir: string | null;
  readonly generationConfig: JsonObject | null;
  /** Owned; for ops called alone on the model's memory. */
  readonly device: NativeDevice;
  readonly pool: NativeKVPool;
  readonly #parts: RunnerParts;
  readonly #samplers: NativeSamplerTable;
  readonly #program: StepProgram;
  readonly #programs: StepProgram[] = [];
  #score: Score | null = null;
  #scoring: Promise<unknown> = Promise.resolve();
  #disposed: Promise<void> | null = null;
  /** Stops scoring between its steps too, where a cancelled program would know nothing of it. */
  readonly #closing = new AbortController();

  constructor(parts: RunnerParts) {
    const { binding, device, capacity, pool } = parts;
    this.#parts = parts;
    this.config = parts.config;
    this.capacity = capacity;
    this.device = device;
    this.pool = pool;
    this.numBlocks = pool.numBlocks;
    this.kvBytesPerToken = parts.kvBytesPerToken;
    this.maxModelLen = parts.maxModelLen;
    this.tokenizerDir = parts.tokenizerDir;
    this.generationConfig = parts.generationConfig;
    this.#samplers = binding.samplerTable(device, capacity.maxSeqs, parts.config.vocabSize);
    const batches: NativeBatch[] = [];
    try {
      for (let i = 0; i < 2; i++) batches.push(binding.batch(device, capacity));
      this.batches = [batches[0]!, batches[1]!];
      this.#program = this.createProgram('step', { sample: true });
    } catch (error) {
      // Closing the device does not free them.
      for (const batch of batches) batch.dispose();
      throw error;
    }
  }

  /** Another program over the same weights and caches, e.g. one with taps. It dies with the runner at the latest. */
  createProgram(
    name: string,
    options: { sample?: boolean; taps?: Iterable<string>; capacity?: BatchCapacity } = {},
  ): StepProgram {
    this.#requireAlive();
    const { binding, device, architecture, config, dtype, fp8Activations, weights, pool } = this.#parts;
    const { sample = false, taps = [], capacity = this.capacity } = options;
    const program = buildForward(architecture, { config, dtype, fp8Activations, sample }, taps);
    const bindings = { constants: weights, pool, samplers: this.#samplers };
    try {
      const bound = new StepProgram(binding, device, name, program, capacity, bindings);
      this.#programs.push(bound);
      return bound;
    } catch (error) {
      throw toSwiftKVError(error);
    }
  }

  setSampler(slot: number, state: SamplerState, promptIds: Int32Array, outputIds: Int32Array): void {
    this.#requireAlive();
    try {
      this.#samplers.set(slot, state, promptIds, outputIds);
    } catch (error) {
      throw toSwiftKVError(error);
    }
  }

  async run(batch: StepBatch): Promise<StepResult> {
    this.#requireAlive();
    const own = this.batches.find((candidate) => candidate === batch);
    if (own === undefined) {
      throw new SwiftKVError('ERR_INVALID_ARGUMENT', "Expected one of the runner's own batches but received another");
    }
    return this.#program.run(own);
  }

  cancel(): void {
    if (this.#disposed === null) this.#program.cancel();
  }

  readLogits(rows: number): Float32Array {
    this.#requireAlive();
    return this.#program.read('logits', rows);
  }

  async logits(tokenIds: ArrayLike<number>, blocks: ArrayLike<number>, signal?: AbortSignal): Promise<Float32Array> {
    this.#requireAlive();
    const score = this.#scoreProgram();
    const stop = signal === undefined ? this.#closing.signal : AbortSignal.any([this.#closing.signal, signal]);
    const result = this.#scoring.then(() => {
      this.#requireAlive();
      return scoreSequence(score, tokenIds, blocks, stop);
    });
    this.#scoring = result.catch(() => {});
    return result;
  }

  /** K (after rotation) and V of some slots of one cache, dequantized: [slots, numKvHeads, headDim] each. */
  async readCache(cache: number, slots: Int32Array): Promise<{ k: Float32Array; v: Float32Array }> {
    this.#requireAlive();
    const { binding, device, config, pool } = this.#parts;
    const shape = [slots.length, config.numKvHeads, config.headDim];
    const indices = binding.tensor(device, 'i32', [slots.length], 'row_major');
    const k = binding.tensor(device, 'f32', shape, 'row_major');
    const v = binding.tensor(device, 'f32', shape, 'row_major');
    try {
      indices.write(new Uint8Array(slots.buffer, slots.byteOffset, slots.byteLength));
      await device.run('kv_dequantize', { slots: indices, cache: pool.cache(cache), k, v }, {});
      return { k: k.readFloats(), v: v.readFloats() };
    } finally {
      for (const tensor of [indices, k, v]) tensor.dispose();
    }
  }

  info(): ModelInfo {
    const { info } = this.#parts;
    const workspace = this.#programs.reduce((sum, program) => sum + program.workspaceBytes, 0);
    const { weights, kvPool, ropeTable } = info.bytes;
    const total = weights + kvPool + ropeTable + workspace;
    return { ...info, bytes: { ...info.bytes, workspace, total } };
  }

  memory(): ModelMemory {
    return { engine: this.device.memory(), environment: this.#parts.binding.memory() };
  }

  dispose(): Promise<void> {
    this.#disposed ??= this.#close();
    return this.#disposed;
  }

  async #close(): Promise<void> {
    this.#closing.abort();
    await Promise.all(this.#programs.map((program) => program.idle()));
    await this.#scoring;
    this.device.close();
    for (const batch of [...this.batches, ...(this.#score === null ? [] : [this.#score.batch])]) batch.dispose();
  }

  #scoreProgram(): Score {
    if (this.#score === null) {
      const { binding, device, capacity, maxModelLen, config } = this.#parts;
      const rows = Math.min(capacity.maxRows, capacity.maxLogitRows);
      const own = { ...capacity, maxRows: rows, maxLogitRows: rows, maxSeqs: 1, maxCopies: 1 };
      this.#score = {
        program: this.createProgram('score', { capacity: own }),
        batch: binding.batch(device, own),
        vocabSize: config.vocabSize,
        maxModelLen,
        numBlocks: this.numBlocks,
      };
    }
    return this.#score;
  }

  #requireAlive(): void {
    if (this.#disposed !== null) throw new SwiftKVError('ERR_DISPOSED', 'The model has been disposed of');
  }
}

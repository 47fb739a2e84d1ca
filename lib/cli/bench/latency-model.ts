// One loaded variant: a cache full of random keys and values, and the engine's own scheduler and loop to run requests
// that begin anywhere in it.

import { BlockManager, blockTokens } from '../../engine/block-manager.ts';
import { EngineLoop } from '../../engine/engine-loop.ts';
import { defaultMaxStepMs } from '../../engine/engine-options.ts';
import { Job } from '../../engine/job.ts';
import { Scheduler } from '../../engine/scheduler.ts';
import { Sequence } from '../../engine/sequence.ts';
import { SwiftKVError } from '../../errors.ts';
import { abortError } from '../../model/abort.ts';
import { resolveModel } from '../../model/embedded.ts';
import { loadModel } from '../../model/load.ts';
import type { ModelInfo } from '../../model/model-info.ts';
import type { NativeModelRunner } from '../../model/native-runner.ts';
import { native } from '../../native/load.ts';
import { greedy } from '../../sampling/options.ts';
import type { Variant } from './latency-variants.ts';

/** Rows of K and V that fill the caches, over and over. */
const fillRows = 512;

export interface RequestMeasures {
  /** From submission to the first token. */
  ttftMs: number;
  /** Mean time of a token after the first; null where there is none. */
  tpotMs: number | null;
  /** By the executor's counters. */
  rowLayersRun: number;
  rowLayersSkipped: number;
}

export interface LatencyLoadOptions {
  threads?: number;
  isa?: string;
  /** Positions of the longest request. */
  maxModelLen: number;
  signal: AbortSignal;
}

export class LatencyModel {
  readonly variant: Variant;
  readonly #runner: NativeModelRunner;
  readonly #loop: EngineLoop;
  readonly #signal: AbortSignal;

  /** @throws what loadModel throws */
  static async load(variant: Variant, options: LatencyLoadOptions): Promise<LatencyModel> {
    const runner = await loadModel(resolveModel(variant.source), {
      device: 'cpu',
      dtype: variant.dtype ?? 'auto',
      kvCacheDtype: variant.kvCacheDtype,
      weightDtype: variant.weightDtype,
      activationDtype: variant.activationDtype,
      threads: options.threads,
      isa: options.isa,
      maxModelLen: options.maxModelLen,
      maxSeqs: 1,
      signal: options.signal,
    });
    try {
      await fillCaches(runner);
      runner.setSampler(0, greedy, new Int32Array(0), new Int32Array(0));
      return new LatencyModel(variant, runner, options.signal);
    } catch (error) {
      await runner.dispose();
      throw error;
    }
  }

  private constructor(variant: Variant, runner: NativeModelRunner, signal: AbortSignal) {
    const { capacity, config, maxModelLen } = runner;
    this.variant = variant;
    this.#runner = runner;
    this.#signal = signal;
    const limits = { ...capacity, maxScoredRows: 1, maxWaiting: 1, maxModelLen, maxStepMs: defaultMaxStepMs };
    this.#loop = new EngineLoop(runner, new Scheduler(config, limits, new BlockManager(runner.numBlocks)));
  }

  info(): ModelInfo {
    return this.#runner.info();
  }

  /** `prompt` tokens behind `depth` that are in the cache already, then `answer` tokens, the first included. */
  async request(prompt: number, depth: number, answer: number): Promise<RequestMeasures> {
    const sequence = new Sequence({
      prompt: tokenIds(depth + prompt, this.#runner.config.vocabSize),
      maxTokens: answer,
      stopIds: new Set(),
    });
    sequence.startAt = depth;
    if (this.#signal.aborted) throw abortError(this.#signal);
    return new Promise((resolve, reject) => {
      const onAbort = () => {
        this.#loop.abort(job);
        reject(abortError(this.#signal));
      };
      const finish = () => {
        if (!sequence.ended) return;
        this.#signal.removeEventListener('abort', onAbort);
        const { rowLayersRun, rowLayersSkipped } = sequence;
        const tpotMs = answer > 1 ? (job.lastTokenAt - job.firstTokenAt) / (answer - 1) : null;
        resolve({ ttftMs: job.firstTokenAt - submittedAt, tpotMs, rowLayersRun, rowLayersSkipped });
      };
      const job = new Job(sequence, greedy, { onUpdate: finish, onError: reject });
      const submittedAt = performance.now();
      this.#loop.submit(job);
      this.#signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  async dispose(): Promise<void> {
    await this.#loop.close(new SwiftKVError('ERR_DISPOSED', 'The model has been disposed of'));
    await this.#runner.dispose();
  }
}

/** Ids all over the vocabulary, the same each time. */
export function tokenIds(length: number, vocabSize: number): Int32Array {
  return Int32Array.from({ length }, (_, i) => ((i + 1) * 7919) % vocabSize);
}

/** Keys and values of variance 1 in every slot of every cache, whoever gets the block. */
async function fillCaches(runner: NativeModelRunner): Promise<void> {
  const { device, pool, config, numBlocks } = runner;
  const shape = [fillRows, config.numKvHeads, config.headDim];
  const binding = native();
  const k = binding.tensor(device, 'f32', shape, 'row_major');
  const v = binding.tensor(device, 'f32', shape, 'row_major');
  const slots = binding.tensor(device, 'i32', [fillRows], 'row_major');
  try {
    await k.fillRandom(1, Math.sqrt(3));
    await v.fillRandom(2, Math.sqrt(3));
    const end = numBlocks * blockTokens;
    const values = new Int32Array(fillRows);
    for (let start = 0; start < end; start += fillRows) {
      for (let i = 0; i < fillRows; i++) values[i] = start + i < end ? start + i : -1;
      slots.write(new Uint8Array(values.buffer));
      for (let c = 0; c < pool.numCaches; c++) {
        await device.run('kv_quantize', { k, v, slots, cache: pool.cache(c) }, {});
      }
    }
  } finally {
    for (const tensor of [k, v, slots]) tensor.dispose();
  }
}

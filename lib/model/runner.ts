// What the engine needs of a model: somewhere to write a step, and a way to run it. Tests put a fake here.

import type { BatchCapacity, NativeBatch, SamplerState, StepResult } from '../native/binding.ts';
import type { ModelConfig } from './config.ts';

/** The arrays of one step; a NativeBatch without its lifetime. */
export type StepBatch = Omit<NativeBatch, 'dispose'>;

export interface ModelRunner {
  readonly config: ModelConfig;
  readonly capacity: BatchCapacity;
  /** Two buffers: JavaScript prepares one while the other runs. */
  readonly batches: readonly [StepBatch, StepBatch];
  /** Blocks of 16 tokens in the KV pool. */
  readonly numBlocks: number;
  /** Bytes of K and V (scales included) that one token takes over all distinct caches. */
  readonly kvBytesPerToken: number;
  /**
   * Sets the sampler of a running slot; the slot index equals the sequence's row in `blockTables`. The ids that the
   * sequence has had so far are counted where a penalty needs them.
   */
  setSampler(slot: number, state: SamplerState, promptIds: Int32Array, outputIds: Int32Array): void;
  /** One forward pass over the batch, off the JavaScript thread. */
  run(batch: StepBatch): Promise<StepResult>;
  /** The run in flight stops after the op it is in and rejects with ERR_ABORTED. */
  cancel(): void;
  /** Copies the f32 logits of the first `rows` logit rows of the last step. [rows, vocabSize] */
  readLogits(rows: number): Float32Array;
  /** Waits for the run in flight, then frees everything native. Idempotent. */
  dispose(): Promise<void>;
}

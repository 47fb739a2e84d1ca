// Turns a folder, or `random:NAME`, into something that runs steps. The one entry of lib/model for the engine.

import { SwiftKVError } from '../errors.ts';
import type { ModelInfo } from './model-info.ts';
import type { ModelRunner } from './runner.ts';

export interface LoadProgress {
  phase: 'weights';
  loadedBytes: number;
  totalBytes: number;
}

export interface LoadOptions {
  device: 'cpu';
  /** `auto`: bf16 when every matrix is stored in 16 bits, else f32. */
  dtype: 'auto' | 'f32' | 'bf16';
  /** Default: the compute dtype. */
  kvCacheDtype?: 'f32' | 'bf16' | 'fp8' | undefined;
  /** Positions a sequence may have, at most `max_position_embeddings`. */
  maxModelLen?: number | undefined;
  /** Bytes of the KV pool; rounded down to whole blocks. */
  kvCacheBytes?: number | undefined;
  threads?: number | undefined;
  /** ISA level of the kernels; default: the best one this machine can run. */
  isa?: string | undefined;
  /** Rows of one step (the token budget), default 512. */
  maxRows?: number | undefined;
  /** Sequences that run at once, default 64. */
  maxSeqs?: number | undefined;
  /** Logit rows of one step, default 64. */
  maxLogitRows?: number | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: LoadProgress) => void) | undefined;
}

/** A model in memory, on a device. */
export interface LoadedModel extends ModelRunner {
  /** Folder that has the tokenizer files (a variant takes its base's), or null for a model made in memory. */
  readonly tokenizerDir: string | null;
  readonly maxModelLen: number;
  info(): ModelInfo;
  /**
   * Logits at every position of one sequence, every layer run on every row (student mode). Independent of a step in
   * flight. `blocks` are blocks of the pool lent for the call, at least ceil(tokenIds.length / 16) of them.
   * Result: [tokenIds.length, vocabSize].
   */
  logits(tokenIds: ArrayLike<number>, blocks: ArrayLike<number>, signal?: AbortSignal): Promise<Float32Array>;
}

/**
 * Reads, checks and loads a model. Nothing is allocated before every file has been validated and all memory counted.
 * @param source a Hugging Face folder, or `random:NAME?kv-layers=50%&group=4&seed=1`
 * @throws ERR_MODEL_NOT_FOUND, ERR_MODEL_INVALID, ERR_MODEL_UNSUPPORTED, ERR_INVALID_ARGUMENT, ERR_OUT_OF_MEMORY,
 *   ERR_UNSUPPORTED (isa or device), ERR_ABORTED, ERR_IO, ERR_NATIVE_LOAD
 */
export async function loadModel(source: string, _options: LoadOptions): Promise<LoadedModel> {
  throw new SwiftKVError('ERR_INTERNAL', `Loading ${source} is not implemented yet`);
}

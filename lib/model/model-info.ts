// What a loaded model is and what it takes: every choice that was made at load, for `engine.info()`.

import type { NativeDeviceInfo, NativeMemory } from '../native/binding.ts';
import type { ModelConfig } from './config.ts';

/** What native code holds now, in bytes. */
export interface ModelMemory {
  /** For this model alone: nothing after it has been disposed of. */
  engine: NativeMemory;
  /** For all models and kernels of this thread's environment together. */
  environment: NativeMemory;
}

export interface ModelInfo {
  /** The folder, or the `random:` description. */
  source: string;
  config: ModelConfig;
  /** `student`: later layers use the projections of SwiftKV; `plain`: every layer has its own K and V. */
  mode: 'plain' | 'student' | 'teacher';
  backend: string;
  /** What the kernels are compiled for: an ISA level, or an architecture such as `sm_90`. */
  level: string;
  threads: number;
  /** What the device is, as found at load; null for `cpu`. */
  device: NativeDeviceInfo | null;
  /** Bits of a row never depend on the rows beside it. */
  batchInvariant: boolean;
  /** What matrix products are computed in. */
  dtype: 'f32' | 'bf16';
  /** What the matrices are stored in, most used first. */
  checkpointDtypes: string[];
  /** What the matrices are kept in, those with most bytes first; a tied or separate head may differ from the others. */
  weightDtypes: string[];
  /** What enters the products with the layers' matrices. int8 and int4 weights take it in groups of 32 as int8. */
  activationDtype: 'f32' | 'bf16' | 'fp8';
  kvCacheDtype: 'f32' | 'bf16' | 'fp8';
  /** Where the scales of the KV cache come from; `mixed`: some caches have static ones, the others dynamic ones. */
  kvScales: 'none' | 'dynamic' | 'checkpoint' | 'mixed';
  numDistinctCaches: number;
  /** K and V of one token over all distinct caches, scales included. */
  kvBytesPerToken: number;
  numBlocks: number;
  blockTokens: number;
  /** Positions a sequence may have, answer included. */
  maxModelLen: number;
  /** Row capacity of one step. */
  maxRows: number;
  maxSeqs: number;
  maxLogitRows: number;
  bytes: { weights: number; kvPool: number; workspace: number; ropeTable: number; total: number };
  /** Things worth knowing, as sentences: conversions, tensors that were not loaded. */
  notes: string[];
}

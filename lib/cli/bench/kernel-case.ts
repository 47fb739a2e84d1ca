// What `bench kernels` measures: one op on operands of one shape, with the work that it cannot avoid.

import type { OpName } from '../../kernels/op-signatures.ts';
import type { randomShapes } from '../../model/random.ts';
import type { CacheSpec, DType, PeakKind } from '../../native/binding.ts';
import type { Workbench } from './workbench.ts';

export type KernelShape = (typeof randomShapes)[string];

export interface KernelCase {
  rows: number;
  /** Keys that attention sees per sequence, the rows included. */
  context?: number;
  /** Operations of matrix products, a multiply-add being two; 0 where there are none. */
  flops: number;
  /** Bytes of the operands that are read and written, each once. */
  bytes: number;
  run: () => void;
}

/** Cases that share operands. */
export interface KernelGroup {
  op: OpName;
  /** Which matrix, or which way of using the op; '' where there is one. */
  name: string;
  /** Of weights, cache or activations: what the op is mostly about. */
  dtype: string;
  /** What bounds its multiply-adds: the first that the level has. */
  peaks: readonly PeakKind[];
  /** The operands belong to the workbench. */
  open(bench: Workbench): Promise<KernelCase[]>;
}

export interface CaseOptions {
  rows: readonly number[];
  /** Contexts of attention. */
  contexts: readonly number[];
  weightDTypes: readonly WeightDType[];
}

/** Weights that products take: the activations that go with them, and the instructions that multiply them at best. */
export const weightDTypes = {
  f32: { tensor: 'f32', activation: 'f32', peaks: ['fma_f32'] },
  bf16: { tensor: 'bf16', activation: 'bf16', peaks: ['dot_bf16', 'fma_f32'] },
  fp8: { tensor: 'fp8_e4m3', activation: 'bf16', peaks: ['dot_bf16', 'fma_f32'] },
  int8: { tensor: 'int8', activation: 'bf16', peaks: ['dot_int8', 'dot_bf16', 'fma_f32'] },
  int4: { tensor: 'int4', activation: 'bf16', peaks: ['dot_int8', 'dot_bf16', 'fma_f32'] },
} as const satisfies Record<string, { tensor: DType; activation: 'f32' | 'bf16'; peaks: readonly PeakKind[] }>;

export type WeightDType = keyof typeof weightDTypes;

/** Element types of the KV cache. */
export const cacheDTypes = {
  f32: { element: 'f32', bytes: 4, scaleBytes: 0, peaks: ['fma_f32'] },
  bf16: { element: 'bf16', bytes: 2, scaleBytes: 0, peaks: ['dot_bf16', 'fma_f32'] },
  fp8: { element: 'fp8_e4m3', bytes: 1, scaleBytes: 4, peaks: ['dot_bf16', 'fma_f32'] },
} as const satisfies Record<string, CacheElement>;

interface CacheElement {
  element: CacheSpec['dtype'];
  bytes: number;
  /** Of one head's K or V of one token. */
  scaleBytes: number;
  peaks: readonly PeakKind[];
}

export type CacheDType = keyof typeof cacheDTypes;

/** Logits and samples are of few rows: the logit budget of a step. */
export const maxLogitRows = 64;

/** K and V of one token in one cache, dynamic scales included. */
export function cacheTokenBytes({ numKvHeads, headDim }: KernelShape, dtype: CacheDType): number {
  const { bytes, scaleBytes } = cacheDTypes[dtype];
  return 2 * numKvHeads * (headDim * bytes + scaleBytes);
}

export function logitRows(rows: readonly number[]): number[] {
  return [...new Set(rows.map((n) => Math.min(n, maxLogitRows)))];
}

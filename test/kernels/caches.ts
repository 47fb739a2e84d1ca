// Caches for the op tests: every kind of storage, filled with known values, read back whole.

import fc from 'fast-check';
import { type CacheRef, ops, PagedKVCache } from '../../lib/kernels/index.ts';
import type { Random, Scope } from './support.ts';

/** How a cache stores its rows: fp8 with a scale per token and head, or with static scales per head. */
export type CacheKind = 'f32' | 'bf16' | 'fp8' | 'fp8_static';
export const cacheKinds = fc.constantFrom<CacheKind>('f32', 'bf16', 'fp8', 'fp8_static');

/** A pool that knows its static scales. */
export class TestCache extends PagedKVCache {
  readonly kScale: Float32Array | undefined;
  readonly vScale: Float32Array | undefined;

  constructor(...[device, options]: ConstructorParameters<typeof PagedKVCache>) {
    super(device, options);
    this.kScale = options.kScale;
    this.vScale = options.vScale;
  }

  staticScale(part: 'k' | 'v', head: number): number | null {
    return (part === 'k' ? this.kScale : this.vScale)?.[head] ?? null;
  }
}

export interface CacheShape {
  kind: CacheKind;
  numBlocks: number;
  numKvHeads: number;
  headDim: number;
  numCaches?: number;
  random: Random;
}

export function makeCache(scope: Scope, { kind, random, ...shape }: CacheShape): TestCache {
  const scales = () => Float32Array.from({ length: shape.numKvHeads }, () => 0.01 + 0.02 * random.next());
  return scope.own(
    new TestCache(scope.device, {
      ...shape,
      dtype: kind.startsWith('fp8') ? 'fp8_e4m3' : (kind as 'f32' | 'bf16'),
      ...(kind === 'fp8_static' ? { kScale: scales(), vScale: scales() } : {}),
    }),
  );
}

function allSlots(scope: Scope, cache: CacheRef) {
  return scope.ints(Int32Array.from({ length: cache.pool.numBlocks * cache.pool.blockTokens }, (_, i) => i));
}

/** Writes a value to every slot, different for each, so that a write to a wrong place shows. */
export function writeSentinels(scope: Scope, cache: CacheRef): void {
  const { numBlocks, blockTokens, numKvHeads, headDim } = cache.pool;
  const shape = [numBlocks * blockTokens, numKvHeads, headDim];
  const values = Float32Array.from({ length: shape[0]! * numKvHeads * headDim }, (_, i) => (i % 251) / 64 + 1);
  const [k, v] = [
    scope.floats(values, shape),
    scope.floats(
      values.map((x) => -x),
      shape,
    ),
  ];
  ops.sync.kv_quantize({ k, v, slots: allSlots(scope, cache), cache });
}

/** Everything in the cache as f32 [slots, Hk, hd]. */
export function readCache(scope: Scope, cache: CacheRef): { k: Float32Array; v: Float32Array } {
  const { numBlocks, blockTokens, numKvHeads, headDim } = cache.pool;
  const shape = [numBlocks * blockTokens, numKvHeads, headDim];
  const [k, v] = [scope.out(shape), scope.out(shape)];
  ops.sync.kv_dequantize({ slots: allSlots(scope, cache), cache, k, v });
  return { k: k.toFloat32Array(), v: v.toFloat32Array() };
}

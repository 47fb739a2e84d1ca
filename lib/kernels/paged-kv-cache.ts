// Paged memory for keys and values, with the block tables that say which block holds which tokens of a sequence.

import { SwiftKVError, toSwiftKVError } from '../errors.ts';
import type { CacheSpec, NativeCacheRef, NativeKVPool } from '../native/binding.ts';
import type { Device } from './device.ts';

export interface PagedKVCacheOptions {
  /** Blocks of 16 tokens, allocated and touched now. */
  numBlocks: number;
  numKvHeads: number;
  headDim: number;
  /** Distinct caches that share the block tables: one per layer, or per group of layers with AcrossKV. 1 by default. */
  numCaches?: number;
  /** Element type of K and V; f32 by default. fp8_e4m3 takes a scale per token and head unless static ones are given. */
  dtype?: CacheSpec['dtype'];
  /** Static fp8 scales [numKvHeads]: a stored code times its scale is the value. */
  kScale?: Float32Array;
  vScale?: Float32Array;
}

/** One of the caches of a PagedKVCache, as an operand of ops. */
export class CacheRef {
  readonly pool: PagedKVCache;
  readonly index: number;
  /** @internal */
  readonly native: NativeCacheRef;

  /** @internal Use `PagedKVCache.cache`. */
  constructor(pool: PagedKVCache, index: number, native: NativeCacheRef) {
    this.pool = pool;
    this.index = index;
    this.native = native;
  }
}

/** The blocks of one sequence, in order of its tokens. It serves every cache of the pool. */
export class BlockTable {
  readonly #free: number[];
  readonly #blockTokens: number;
  readonly #blocks: number[] = [];

  /** @internal Use `PagedKVCache.table`. */
  constructor(free: number[], blockTokens: number) {
    this.#free = free;
    this.#blockTokens = blockTokens;
  }

  get blocks(): readonly number[] {
    return this.#blocks;
  }

  /** Tokens that fit. */
  get capacity(): number {
    return this.#blocks.length * this.#blockTokens;
  }

  /** Takes blocks until `tokens` fit. Throws `ERR_CACHE_TOO_SMALL` and takes none when the pool has too few. */
  reserve(tokens: number): this {
    const needed = Math.ceil(tokens / this.#blockTokens) - this.#blocks.length;
    if (needed > this.#free.length) {
      throw new SwiftKVError(
        'ERR_CACHE_TOO_SMALL',
        `${tokens} tokens need ${needed} more blocks but the cache has ${this.#free.length} free; free sequences, or make it larger`,
      );
    }
    for (let i = 0; i < needed; i++) this.#blocks.push(this.#free.pop()!);
    return this;
  }

  /** Where the token at `position` is stored: block * 16 + offset. */
  slot(position: number): number {
    const block = this.#blocks[Math.floor(position / this.#blockTokens)];
    if (block === undefined || position < 0) {
      throw new SwiftKVError(
        'ERR_INVALID_ARGUMENT',
        `Expected 0..${this.capacity - 1} for position but received ${position}: reserve blocks first`,
      );
    }
    return block * this.#blockTokens + (position % this.#blockTokens);
  }

  /** Gives all blocks back. What they hold stays until someone else writes it. */
  release(): void {
    this.#free.push(...this.#blocks.splice(0).reverse());
  }
}

export class PagedKVCache {
  readonly device: Device;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly dtype: CacheSpec['dtype'];
  readonly scales: CacheSpec['scales'];
  /** Tokens in one block: 16. */
  readonly blockTokens: number;
  readonly #native: NativeKVPool;
  readonly #caches: CacheRef[];
  /** Descending, so that blocks are handed out from 0 up. */
  readonly #free: number[];
  #disposed = false;

  /** Throws `ERR_INVALID_ARGUMENT` for bad sizes or scales and `ERR_OUT_OF_MEMORY`. */
  constructor(device: Device, options: PagedKVCacheOptions) {
    const { numBlocks, numKvHeads, headDim, numCaches = 1, dtype = 'f32', kScale, vScale } = options;
    for (const [name, value] of Object.entries({ numBlocks, numKvHeads, headDim, numCaches })) {
      if (!Number.isSafeInteger(value) || value < 1) {
        throw new SwiftKVError(
          'ERR_INVALID_ARGUMENT',
          `Expected an integer >= 1 for ${name} but received ${String(value)}`,
        );
      }
    }
    this.scales = staticScales(options) ? 'per_head' : dtype === 'fp8_e4m3' ? 'dynamic' : 'none';
    const spec: CacheSpec = {
      numKvHeads,
      headDim,
      dtype,
      scales: this.scales,
      ...(kScale && vScale ? { kScale, vScale } : {}),
    };
    try {
      this.#native = device.binding.kvPool(
        device.native,
        numBlocks,
        Array.from({ length: numCaches }, () => spec),
      );
    } catch (error) {
      throw toSwiftKVError(error);
    }
    this.device = device;
    this.numKvHeads = numKvHeads;
    this.headDim = headDim;
    this.dtype = dtype;
    this.blockTokens = device.binding.blockTokens;
    this.#caches = Array.from({ length: numCaches }, (_, i) => new CacheRef(this, i, this.#native.cache(i)));
    this.#free = Array.from({ length: numBlocks }, (_, i) => numBlocks - 1 - i);
  }

  get numBlocks(): number {
    return this.#native.numBlocks;
  }

  get numCaches(): number {
    return this.#caches.length;
  }

  /** Bytes of one block summed over all caches, scales included. */
  get blockBytes(): number {
    return this.#native.blockBytes;
  }

  get byteLength(): number {
    return this.#native.byteLength;
  }

  get freeBlocks(): number {
    return this.#free.length;
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  /** All caches, in order: the operand of `swiftkv_project` and `copy_blocks`. */
  get caches(): readonly CacheRef[] {
    return this.#caches;
  }

  cache(index: number): CacheRef {
    const cache = this.#caches[index];
    if (!cache) {
      throw new SwiftKVError(
        'ERR_INVALID_ARGUMENT',
        `Expected 0..${this.numCaches - 1} for the cache index but received ${index}`,
      );
    }
    return cache;
  }

  /** The block table of a new sequence, with blocks for `tokens` tokens. Throws `ERR_CACHE_TOO_SMALL`. */
  table(tokens = 0): BlockTable {
    return new BlockTable(this.#free, this.blockTokens).reserve(tokens);
  }

  /** Frees the memory. Idempotent; safe while an op that uses it is in flight. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#native.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Whether static scales were given, completely and for the right dtype. */
function staticScales({ kScale, vScale, dtype, numKvHeads }: PagedKVCacheOptions): boolean {
  if (!kScale && !vScale) return false;
  if (dtype !== 'fp8_e4m3') {
    throw new SwiftKVError(
      'ERR_INVALID_ARGUMENT',
      `Expected dtype fp8_e4m3 with scales but received ${dtype ?? 'f32'}`,
    );
  }
  if (kScale?.length !== numKvHeads || vScale?.length !== numKvHeads) {
    throw new SwiftKVError(
      'ERR_INVALID_ARGUMENT',
      `Expected ${numKvHeads} values (one per KV head) for kScale and vScale but received ` +
        `${kScale?.length ?? 'none'} and ${vScale?.length ?? 'none'}`,
    );
  }
  return true;
}

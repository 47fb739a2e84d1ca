// Operands for measurements: filled with random values, freed together.

import type { Device } from '../../kernels/device.ts';
import { ops } from '../../kernels/ops.ts';
import { type CacheRef, PagedKVCache } from '../../kernels/paged-kv-cache.ts';
import { SamplerTable } from '../../kernels/sampler-table.ts';
import { Tensor } from '../../kernels/tensor.ts';
import type { DType, Layout } from '../../native/binding.ts';
import { type CacheDType, cacheDTypes, type KernelShape, type WeightDType, weightDTypes } from './kernel-case.ts';

/** Rows of K and V that fill a cache, over and over. */
const fillRows = 512;
/** Many small things would be more handles than bytes. */
const maxCopies = 256;

export class Workbench implements Disposable {
  readonly device: Device;
  /** More than the caches of the processor: what is to come from memory is taken in turn from so much. */
  readonly rotateBytes: number;
  readonly #owned: Disposable[] = [];
  #seed = 1;

  constructor(device: Device, rotateBytes: number) {
    this.device = device;
    this.rotateBytes = rotateBytes;
  }

  zeros(dtype: DType, shape: readonly number[], layout: Layout = 'row_major'): Tensor {
    return this.own(Tensor.zeros(this.device, [...shape], { dtype, layout }));
  }

  /** Uniform in [-scale, scale). */
  async random(dtype: DType, shape: readonly number[], layout: Layout = 'row_major', scale = 1): Promise<Tensor> {
    const tensor = this.zeros(dtype, shape, layout);
    await tensor.native.fillRandom(this.#seed++, scale);
    return tensor;
  }

  ints(values: ArrayLike<number>, shape: readonly number[] = [values.length]): Tensor {
    return this.own(Tensor.from(this.device, Int32Array.from(values), shape));
  }

  floats(values: ArrayLike<number>): Tensor {
    return this.own(Tensor.from(this.device, Float32Array.from(values)));
  }

  /** How many of something that takes `bytes` hold `rotateBytes`. */
  copies(bytes: number): number {
    return Math.max(1, Math.min(maxCopies, Math.ceil(this.rotateBytes / bytes)));
  }

  /** Weights [n, k], in turn and for ever: they come from memory each time. */
  async weights(dtype: WeightDType, n: number, k: number): Promise<() => Tensor> {
    const make = () => this.random(weightDTypes[dtype].tensor, [n, k], 'panels', Math.sqrt(3 / k));
    const tensors = [await make()];
    for (let i = this.copies(tensors[0]!.byteLength); i > 1; i--) tensors.push(await make());
    let next = 0;
    return () => tensors[next++ % tensors.length]!;
  }

  pool(c: KernelShape, dtype: CacheDType, tokens: number, numCaches = 1): PagedKVCache {
    return this.own(
      new PagedKVCache(this.device, {
        numBlocks: Math.max(1, Math.ceil(tokens / this.device.binding.blockTokens)),
        numKvHeads: c.numKvHeads,
        headDim: c.headDim,
        numCaches,
        dtype: cacheDTypes[dtype].element,
      }),
    );
  }

  samplers(capacity: number, vocabSize: number): SamplerTable {
    return this.own(new SamplerTable(this.device, capacity, vocabSize));
  }

  /** Random keys and values in every slot of some caches of one pool. */
  async fill(caches: readonly CacheRef[]): Promise<void> {
    const { numKvHeads, headDim, numBlocks, blockTokens } = caches[0]!.pool;
    const k = await this.random('f32', [fillRows, numKvHeads, headDim], 'row_major', Math.sqrt(3));
    const v = await this.random('f32', [fillRows, numKvHeads, headDim], 'row_major', Math.sqrt(3));
    const tokens = numBlocks * blockTokens;
    const slots = new Int32Array(fillRows);
    const at = this.ints(slots);
    for (let start = 0; start < tokens; start += fillRows) {
      for (let i = 0; i < fillRows; i++) slots[i] = start + i < tokens ? start + i : -1;
      at.set(slots);
      for (const cache of caches) await ops.kv_quantize({ k, v, slots: at, cache });
    }
  }

  /** cos and sin of the positions below `positions`. */
  async rope(c: KernelShape, positions: number): Promise<Tensor> {
    const table = this.zeros('f32', [positions, c.headDim]);
    await ops.rope_table({ invFreq: this.inverseFrequencies(c), table });
    return table;
  }

  inverseFrequencies({ rope, headDim }: KernelShape): Tensor {
    return this.floats(range(headDim / 2).map((i) => rope.theta ** ((-2 * i) / headDim)));
  }

  dispose(): void {
    for (const item of this.#owned.splice(0)) item[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** Frees it with the rest. */
  own<T extends Disposable>(item: T): T {
    this.#owned.push(item);
    return item;
  }
}

export const range = (length: number, from = 0): number[] => Array.from({ length }, (_, i) => from + i);

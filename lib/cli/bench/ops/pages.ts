// Ops that write, read and copy the pages of a cache.

import { ops } from '../../../kernels/ops.ts';
import {
  type CacheDType,
  type CaseOptions,
  cacheDTypes,
  cacheTokenBytes,
  type KernelCase,
  type KernelGroup,
  type KernelShape,
} from '../kernel-case.ts';
import { range, type Workbench } from '../workbench.ts';

const blockTokens = 16;
/** One, and those of a prompt of 512 tokens. */
const copiedBlocks = [1, 32];

export function kvQuantize(c: KernelShape, o: CaseOptions): KernelGroup[] {
  return cacheGroups('kv_quantize', o.rows, async (bench, dtype, rows) => {
    const k = await bench.random('f32', [rows, c.numKvHeads, c.headDim]);
    const v = await bench.random('f32', [rows, c.numKvHeads, c.headDim]);
    const cache = bench.pool(c, dtype, rows).cache(0);
    const slots = bench.ints(range(rows));
    const bytes = k.byteLength + v.byteLength + rows * cacheTokenBytes(c, dtype);
    return { bytes, run: () => ops.sync.kv_quantize({ k, v, slots, cache }) };
  });
}

export function kvDequantize(c: KernelShape, o: CaseOptions): KernelGroup[] {
  return cacheGroups('kv_dequantize', o.rows, async (bench, dtype, rows) => {
    const cache = bench.pool(c, dtype, rows).cache(0);
    await bench.fill([cache]);
    const slots = bench.ints(range(rows));
    const k = bench.zeros('f32', [rows, c.numKvHeads, c.headDim]);
    const v = bench.zeros('f32', [rows, c.numKvHeads, c.headDim]);
    const bytes = k.byteLength + v.byteLength + rows * cacheTokenBytes(c, dtype);
    return { bytes, run: () => ops.sync.kv_dequantize({ slots, cache, k, v }) };
  });
}

/** Rows are blocks, in the caches of all layers. */
export function copyBlocks(c: KernelShape): KernelGroup[] {
  return cacheGroups('copy_blocks', copiedBlocks, async (bench, dtype, blocks) => {
    const pool = bench.pool(c, dtype, 2 * blocks * blockTokens, c.numLayers);
    await bench.fill(pool.caches);
    const from = bench.ints(range(blocks));
    const to = bench.ints(range(blocks, blocks));
    return {
      bytes: 2 * blocks * pool.blockBytes,
      run: () => ops.sync.copy_blocks({ from, to, caches: pool.caches }),
    };
  });
}

function cacheGroups(
  op: KernelGroup['op'],
  rowCounts: readonly number[],
  make: (bench: Workbench, dtype: CacheDType, rows: number) => Promise<Pick<KernelCase, 'bytes' | 'run'>>,
): KernelGroup[] {
  return (Object.keys(cacheDTypes) as CacheDType[]).map((dtype) => ({
    op,
    name: '',
    dtype,
    peaks: [],
    async open(bench) {
      const cases: KernelCase[] = [];
      for (const rows of rowCounts) cases.push({ rows, flops: 0, ...(await make(bench, dtype, rows)) });
      return cases;
    },
  }));
}

// Attention over the pages of a cache. Decode reads another cache each time, so that keys and values come from memory.

import { ops } from '../../../kernels/ops.ts';
import type { BlockTable } from '../../../kernels/paged-kv-cache.ts';
import { describeRows } from '../../../kernels/rows.ts';
import { visibleKeys } from '../flops.ts';
import {
  type CacheDType,
  type CaseOptions,
  cacheDTypes,
  cacheTokenBytes,
  type KernelCase,
  type KernelGroup,
  type KernelShape,
} from '../kernel-case.ts';
import type { Workbench } from '../workbench.ts';

/** More rows than this are no decode step that anyone waits for here. */
const maxSequences = 16;

const flopsPerKey = (c: KernelShape) => 4 * c.numHeads * c.headDim;

/** One row in each of `rows` sequences. */
export function attentionDecode(c: KernelShape, o: CaseOptions): KernelGroup[] {
  const rowCounts = o.rows.filter((rows) => rows <= maxSequences);
  if (rowCounts.length === 0) return [];
  const most = Math.max(...rowCounts);
  return contextGroups('attention_decode', c, o, async (bench, dtype, context) => {
    const numCaches = bench.copies(most * context * cacheTokenBytes(c, dtype));
    const pool = bench.pool(c, dtype, most * Math.ceil(context / 16) * 16, numCaches);
    await bench.fill(pool.caches);
    const tables = Array.from({ length: most }, () => pool.table(context));
    const cases: KernelCase[] = [];
    for (const rows of rowCounts) {
      const sequences = tables.slice(0, rows).map((table) => ({ table, start: context - 1, length: 1 }));
      const { operands, bytes } = await attentionOperands(bench, c, rows, sequences);
      let turn = 0;
      cases.push({
        rows,
        context,
        flops: rows * context * flopsPerKey(c),
        bytes: bytes + rows * context * cacheTokenBytes(c, dtype),
        run: () => ops.sync.attention_decode({ ...operands, cache: pool.caches[turn++ % numCaches]! }),
      });
    }
    return cases;
  });
}

/** The last `rows` rows of one sequence. */
export function attentionPrefill(c: KernelShape, o: CaseOptions): KernelGroup[] {
  const rowCounts = o.rows.filter((rows) => rows > 1);
  if (rowCounts.length === 0) return [];
  return contextGroups('attention_prefill', c, o, async (bench, dtype, context) => {
    const pool = bench.pool(c, dtype, context);
    await bench.fill(pool.caches);
    const table = pool.table(context);
    const cases: KernelCase[] = [];
    for (const rows of rowCounts.filter((n) => n <= context)) {
      const start = context - rows;
      const { operands, bytes } = await attentionOperands(bench, c, rows, [{ table, start, length: rows }]);
      cases.push({
        rows,
        context,
        flops: visibleKeys(rows, start) * flopsPerKey(c),
        bytes: bytes + context * cacheTokenBytes(c, dtype),
        run: () => ops.sync.attention_prefill({ ...operands, cache: pool.cache(0) }),
      });
    }
    return cases;
  });
}

/** Queries are f32 whatever the cache, as the models have them. `bytes` are theirs and the output's. */
export async function attentionOperands(
  bench: Workbench,
  c: KernelShape,
  rows: number,
  sequences: readonly { table: BlockTable; start: number; length: number }[],
) {
  const description = bench.own(describeRows(bench.device, sequences));
  const { positions, queryStart, contextLen, tableRow, blockTables } = description;
  const q = await bench.random('f32', [rows, c.numHeads, c.headDim]);
  const o = bench.zeros('f32', [rows, c.numHeads * c.headDim]);
  return {
    operands: { q, o, positions, queryStart, contextLen, tableRow, blockTables },
    bytes: q.byteLength + o.byteLength,
  };
}

function contextGroups(
  op: 'attention_decode' | 'attention_prefill',
  c: KernelShape,
  o: CaseOptions,
  open: (bench: Workbench, dtype: CacheDType, context: number) => Promise<KernelCase[]>,
): KernelGroup[] {
  const contexts = [...new Set(o.contexts.map((context) => Math.min(context, c.maxPositions)))];
  return (Object.keys(cacheDTypes) as CacheDType[]).flatMap((dtype) =>
    contexts.map((context) => ({
      op,
      name: '',
      dtype,
      peaks: cacheDTypes[dtype].peaks,
      open: (bench: Workbench) => open(bench, dtype, context),
    })),
  );
}

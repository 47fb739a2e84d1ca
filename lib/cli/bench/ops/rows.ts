// Ops that go over rows once: memory is all they wait for.

import { ops } from '../../../kernels/ops.ts';
import {
  type CaseOptions,
  type KernelCase,
  type KernelGroup,
  type KernelShape,
  type WeightDType,
  weightDTypes,
} from '../kernel-case.ts';
import { range, type Workbench } from '../workbench.ts';

type Activation = 'f32' | 'bf16';

/** Row i in an order that no prefetcher knows. */
const scatter = (i: number, length: number) => ((i + 1) * 7919) % length;

export function embed(c: KernelShape, o: CaseOptions): KernelGroup[] {
  return o.weightDTypes.map((dtype) => ({
    op: 'embed',
    name: '',
    dtype,
    peaks: [],
    async open(bench) {
      const table = await bench.random(weightDTypes[dtype].tensor, [c.vocabSize, c.hiddenSize], 'panels');
      const tableRowBytes = table.byteLength / c.vocabSize;
      return o.rows.map((rows) => {
        const ids = bench.ints(range(rows).map((i) => scatter(i, c.vocabSize)));
        const x = bench.zeros('f32', [rows, c.hiddenSize]);
        return {
          rows,
          flops: 0,
          bytes: rows * tableRowBytes + x.byteLength,
          run: () => ops.sync.embed({ ids, table, x }),
        };
      });
    },
  }));
}

export function rmsNorm(c: KernelShape, o: CaseOptions): KernelGroup[] {
  return activations(o).map((dtype) =>
    rowGroup('rms_norm', dtype, o.rows, async (bench, rows) => {
      const x = await bench.random('f32', [rows, c.hiddenSize]);
      const w = bench.floats(new Float32Array(c.hiddenSize).fill(1));
      const out = bench.zeros(dtype, [rows, c.hiddenSize]);
      const bytes = x.byteLength + w.byteLength + out.byteLength;
      return { bytes, run: () => ops.sync.rms_norm({ x, w, out }, { eps: 1e-5 }) };
    }),
  );
}

export function siluMul(c: KernelShape, o: CaseOptions): KernelGroup[] {
  return activations(o).map((dtype) =>
    rowGroup('silu_mul', dtype, o.rows, async (bench, rows) => {
      const gateUp = await bench.random('f32', [rows, 2 * c.intermediateSize]);
      const out = bench.zeros(dtype, [rows, c.intermediateSize]);
      return { bytes: gateUp.byteLength + out.byteLength, run: () => ops.sync.silu_mul({ gateUp, out }) };
    }),
  );
}

export function gatherRows(c: KernelShape, o: CaseOptions): KernelGroup[] {
  const source = Math.max(...o.rows);
  return [
    rowGroup('gather_rows', 'f32', o.rows, async (bench, rows) => {
      const x = await bench.random('f32', [source, c.hiddenSize]);
      const index = bench.ints(range(rows).map((i) => scatter(i, source)));
      const out = bench.zeros('f32', [rows, c.hiddenSize]);
      return { bytes: 2 * out.byteLength, run: () => ops.sync.gather_rows({ x, index, out }) };
    }),
  ];
}

export function quantizeRows(c: KernelShape, o: CaseOptions): KernelGroup[] {
  return activations(o).map((dtype) =>
    rowGroup('quantize_rows', dtype, o.rows, async (bench, rows) => {
      const a = await bench.random(dtype, [rows, c.hiddenSize]);
      const codes = bench.zeros('u8', [rows, c.hiddenSize]);
      const scales = bench.zeros('f32', [rows]);
      const bytes = a.byteLength + codes.byteLength + scales.byteLength;
      return { bytes, run: () => ops.sync.quantize_rows({ a, codes, scales }) };
    }),
  );
}

export function copyRows(c: KernelShape, o: CaseOptions): KernelGroup[] {
  return activations(o).map((dtype) =>
    rowGroup('copy_rows', dtype, o.rows, async (bench, rows) => {
      const from = await bench.random(dtype, [rows, c.hiddenSize]);
      const out = bench.zeros('f32', [rows, c.hiddenSize]);
      return { bytes: from.byteLength + out.byteLength, run: () => ops.sync.copy_rows({ in: from, out }) };
    }),
  );
}

/** Once per model, for all its positions: here as many as the longest context. */
export function ropeTable(c: KernelShape, o: CaseOptions): KernelGroup[] {
  const positions = Math.min(Math.max(...o.contexts), c.maxPositions);
  return [
    rowGroup('rope_table', 'f32', [positions], async (bench, rows) => {
      const invFreq = bench.inverseFrequencies(c);
      const table = bench.zeros('f32', [rows, c.headDim]);
      return { bytes: table.byteLength, run: () => ops.sync.rope_table({ invFreq, table }) };
    }),
  ];
}

function activations({ weightDTypes: chosen }: { weightDTypes: readonly WeightDType[] }): Activation[] {
  return [...new Set(chosen.map((dtype) => weightDTypes[dtype].activation))];
}

function rowGroup(
  op: KernelGroup['op'],
  dtype: string,
  rowCounts: readonly number[],
  make: (bench: Workbench, rows: number) => Promise<Pick<KernelCase, 'bytes' | 'run'>>,
): KernelGroup {
  const open = async (bench: Workbench) => {
    const cases: KernelCase[] = [];
    for (const rows of rowCounts) cases.push({ rows, flops: 0, ...(await make(bench, rows)) });
    return cases;
  };
  return { op, name: '', dtype, peaks: [], open };
}

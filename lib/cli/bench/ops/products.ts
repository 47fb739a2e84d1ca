// Matrix products: the weights come from memory, in turn.

import type { OpAttrs } from '../../../kernels/op-signatures.ts';
import { ops } from '../../../kernels/ops.ts';
import {
  type CaseOptions,
  cacheTokenBytes,
  type KernelCase,
  type KernelGroup,
  type KernelShape,
  logitRows,
  type WeightDType,
  weightDTypes,
} from '../kernel-case.ts';
import { range, type Workbench } from '../workbench.ts';

interface Product {
  name: string;
  n: number;
  k: number;
  /** Added to the residual stream. */
  accumulate: boolean;
  rows: readonly number[];
}

/** The products of a model that are `linear`. */
function products(c: KernelShape, rows: readonly number[]): Product[] {
  const { hiddenSize: d, intermediateSize: ff, vocabSize } = c;
  return [
    { name: 'o', n: d, k: c.numHeads * c.headDim, accumulate: true, rows },
    { name: 'gate_up', n: 2 * ff, k: d, accumulate: false, rows },
    { name: 'down', n: d, k: ff, accumulate: true, rows },
    { name: 'head', n: vocabSize, k: d, accumulate: false, rows: logitRows(rows) },
  ];
}

const productFlops = (rows: number, n: number, k: number) => 2 * rows * n * k;

export function linear(c: KernelShape, o: CaseOptions): KernelGroup[] {
  return o.weightDTypes.flatMap((dtype) =>
    products(c, o.rows).map(({ name, n, k, accumulate, rows: rowCounts }): KernelGroup => {
      const { activation, peaks } = weightDTypes[dtype];
      return {
        op: 'linear',
        name,
        dtype,
        peaks,
        async open(bench) {
          const next = await bench.weights(dtype, n, k);
          const weightBytes = next().byteLength;
          const cases: KernelCase[] = [];
          for (const rows of rowCounts) {
            const a = await bench.random(activation, [rows, k]);
            const y = bench.zeros('f32', [rows, n]);
            cases.push({
              rows,
              flops: productFlops(rows, n, k),
              bytes: weightBytes + a.byteLength + y.byteLength * (accumulate ? 2 : 1),
              run: () => ops.sync.linear({ a, w: next(), y }, { accumulate }),
            });
          }
          return cases;
        },
      };
    }),
  );
}

export function qkvRopeCache(c: KernelShape, o: CaseOptions): KernelGroup[] {
  const n = (c.numHeads + 2 * c.numKvHeads) * c.headDim;
  return projectionGroups('qkv_rope_cache', c, o, n, async ({ bench, activation, rows, rope, next }) => {
    const a = await bench.random(activation, [rows, c.hiddenSize]);
    const q = bench.zeros('f32', [rows, c.numHeads, c.headDim]);
    const cache = bench.pool(c, activation, rows).cache(0);
    const operands = { a, rope, positions: bench.ints(range(rows)), slots: bench.ints(range(rows)), q, cache };
    return {
      bytes: a.byteLength + q.byteLength + rows * cacheTokenBytes(c, activation),
      run: () => ops.sync.qkv_rope_cache({ ...operands, w: next() }, { numHeads: c.numHeads }),
    };
  });
}

export function qRope(c: KernelShape, o: CaseOptions): KernelGroup[] {
  return projectionGroups('q_rope', c, o, c.numHeads * c.headDim, async ({ bench, activation, rows, rope, next }) => {
    const a = await bench.random(activation, [rows, c.hiddenSize]);
    const q = bench.zeros('f32', [rows, c.numHeads, c.headDim]);
    const positions = bench.ints(range(rows));
    return {
      bytes: a.byteLength + q.byteLength,
      run: () => ops.sync.q_rope({ a, w: next(), rope, positions, q }),
    };
  });
}

/** The later half of the layers, a group for each. */
export function swiftkvProject(c: KernelShape, o: CaseOptions): KernelGroup[] {
  const groups = Math.max(1, Math.floor(c.numLayers / 2));
  const n = groups * 2 * c.numKvHeads * c.headDim;
  return projectionGroups('swiftkv_project', c, o, n, async ({ bench, activation, rows, rope, next }) => {
    const attrs: OpAttrs<'swiftkv_project'> = {
      eps: 1e-5,
      ...(next().dtype !== activation && { bf16Activations: activation === 'bf16' }),
    };
    const x = await bench.random('f32', [rows, c.hiddenSize]);
    const norm = bench.floats(new Float32Array(c.hiddenSize).fill(1));
    const { caches } = bench.pool(c, activation, rows, groups);
    const operands = { x, norm, rope, positions: bench.ints(range(rows)), slots: bench.ints(range(rows)), caches };
    return {
      bytes: x.byteLength + groups * rows * cacheTokenBytes(c, activation),
      run: () => ops.sync.swiftkv_project({ ...operands, w: next() }, attrs),
    };
  });
}

interface Projection {
  bench: Workbench;
  activation: 'f32' | 'bf16';
  rows: number;
  rope: Awaited<ReturnType<Workbench['rope']>>;
  next: Awaited<ReturnType<Workbench['weights']>>;
}

/** `make` says what is read and written besides the weights. */
function projectionGroups(
  op: 'qkv_rope_cache' | 'q_rope' | 'swiftkv_project',
  c: KernelShape,
  o: CaseOptions,
  n: number,
  make: (p: Projection) => Promise<Pick<KernelCase, 'bytes' | 'run'>>,
): KernelGroup[] {
  return o.weightDTypes.map((dtype: WeightDType) => ({
    op,
    name: '',
    dtype,
    peaks: weightDTypes[dtype].peaks,
    async open(bench) {
      const { activation } = weightDTypes[dtype];
      const next = await bench.weights(dtype, n, c.hiddenSize);
      const weightBytes = next().byteLength;
      const rope = await bench.rope(c, Math.max(...o.rows));
      const cases: KernelCase[] = [];
      for (const rows of o.rows) {
        const { bytes, run } = await make({ bench, activation, rows, rope, next });
        cases.push({ rows, flops: productFlops(rows, n, c.hiddenSize), bytes: weightBytes + bytes, run });
      }
      return cases;
    },
  }));
}

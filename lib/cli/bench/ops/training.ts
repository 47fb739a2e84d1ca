// Ops of training that multiply matrices: gradients of weights and of attention, and the heads of loss.

import { ops } from '../../../kernels/ops.ts';
import { visibleKeys } from '../flops.ts';
import {
  type CaseOptions,
  cacheTokenBytes,
  type KernelCase,
  type KernelGroup,
  type KernelShape,
  weightDTypes,
} from '../kernel-case.ts';
import { range, type Workbench } from '../workbench.ts';
import { attentionOperands } from './attention.ts';

/** Rows of one sequence of a batch at most. */
const sequenceRows = 512;

type TrainedDType = 'f32' | 'bf16';

export function linearBackward(c: KernelShape, o: CaseOptions): KernelGroup[] {
  const { hiddenSize: d, intermediateSize: ff } = c;
  const products = [
    { name: 'o', n: d, k: c.numHeads * c.headDim },
    { name: 'gate_up', n: 2 * ff, k: d },
    { name: 'down', n: d, k: ff },
  ];
  return products.flatMap(({ name, n, k }) =>
    trainingGroups('linear_backward', name, o, async (bench, dtype, rows) => {
      const a = await bench.random(dtype, [rows, k]);
      const dy = await bench.random(dtype, [rows, n]);
      const dw = bench.zeros('f32', [n, k]);
      return {
        flops: 2 * rows * n * k,
        bytes: a.byteLength + dy.byteLength + 2 * dw.byteLength,
        run: () => ops.sync.linear_backward({ a, dy, dw }),
      };
    }),
  );
}

/** Sequences of at most 512 rows. Scores are computed again; each of the three inputs has a gradient. */
export function attentionBackward(c: KernelShape, o: CaseOptions): KernelGroup[] {
  return trainingGroups('attention_backward', '', o, async (bench, dtype, rows) => {
    const pool = bench.pool(c, dtype, Math.ceil(rows / sequenceRows) * sequenceRows);
    await bench.fill(pool.caches);
    const lengths = range(Math.ceil(rows / sequenceRows)).map((i) => Math.min(sequenceRows, rows - i * sequenceRows));
    const sequences = lengths.map((length) => ({ table: pool.table(length), start: 0, length }));
    const { operands, bytes } = await attentionOperands(bench, c, rows, sequences);
    const dout = await bench.random('f32', [rows, c.numHeads * c.headDim]);
    const dq = bench.zeros('f32', [rows, c.numHeads, c.headDim]);
    const dkv = bench.zeros('f32', [rows, 2 * c.numKvHeads * c.headDim]);
    const all = { ...operands, cache: pool.cache(0), dout, dq, dkv };
    const keys = lengths.reduce((sum, length) => sum + visibleKeys(length, 0), 0);
    return {
      flops: keys * 5 * 2 * c.numHeads * c.headDim,
      bytes: bytes + dout.byteLength + dq.byteLength + dkv.byteLength + rows * cacheTokenBytes(c, dtype),
      run: () => ops.sync.attention_backward(all, { scale: c.headDim ** -0.5 }),
    };
  });
}

export function distillHead(c: KernelShape, o: CaseOptions): KernelGroup[] {
  return trainingGroups('distill_head', '', o, async (bench, dtype, rows) => {
    const head = await headOperands(bench, c, dtype, rows);
    const teacher = await bench.random(dtype, [rows, c.hiddenSize]);
    const dStudent = bench.zeros('f32', [rows, c.hiddenSize]);
    const { a: student, w, wt, weights, loss } = head.operands;
    const operands = { student, teacher, w, wt, weights, loss, dStudent };
    return {
      flops: 3 * head.productFlops,
      bytes: head.bytes + teacher.byteLength + dStudent.byteLength,
      run: () => ops.sync.distill_head(operands, { temperature: 2 }),
    };
  });
}

export function crossEntropyHead(c: KernelShape, o: CaseOptions): KernelGroup[] {
  return trainingGroups('cross_entropy_head', '', o, async (bench, dtype, rows) => {
    const head = await headOperands(bench, c, dtype, rows);
    const da = bench.zeros('f32', [rows, c.hiddenSize]);
    const dw = bench.zeros('f32', [c.vocabSize, c.hiddenSize]);
    const ids = bench.ints(range(rows).map((i) => (i * 7919) % c.vocabSize));
    const operands = { ...head.operands, ids, da, dw };
    return {
      flops: 3 * head.productFlops,
      bytes: head.bytes + da.byteLength + 2 * dw.byteLength,
      run: () => ops.sync.cross_entropy_head(operands),
    };
  });
}

async function headOperands(bench: Workbench, c: KernelShape, dtype: TrainedDType, rows: number) {
  const { vocabSize, hiddenSize } = c;
  const scale = Math.sqrt(3 / hiddenSize);
  const operands = {
    a: await bench.random(dtype, [rows, hiddenSize], 'row_major', Math.sqrt(3)),
    w: await bench.random(dtype, [vocabSize, hiddenSize], 'panels', scale),
    wt: await bench.random(dtype, [hiddenSize, vocabSize], 'panels', scale),
    weights: bench.floats(new Float32Array(rows).fill(1 / rows)),
    loss: bench.zeros('f32', [rows]),
  };
  const bytes = operands.a.byteLength + operands.w.byteLength + operands.wt.byteLength;
  return { operands, bytes, productFlops: 2 * rows * vocabSize * hiddenSize };
}

/** Of the dtypes that can be trained. */
function trainingGroups(
  op: KernelGroup['op'],
  name: string,
  o: CaseOptions,
  make: (bench: Workbench, dtype: TrainedDType, rows: number) => Promise<Omit<KernelCase, 'rows'>>,
): KernelGroup[] {
  const dtypes = o.weightDTypes.filter((dtype) => dtype === 'f32' || dtype === 'bf16');
  return dtypes.map((dtype) => ({
    op,
    name,
    dtype,
    peaks: weightDTypes[dtype].peaks,
    async open(bench) {
      const cases: KernelCase[] = [];
      for (const rows of o.rows) cases.push({ rows, ...(await make(bench, dtype, rows)) });
      return cases;
    },
  }));
}

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type Device, ops } from '../../lib/kernels/index.ts';
import { sumBound } from './reference.ts';
import { crossEntropyHead, differences, headWeightGradient, transpose } from './reference-heads.ts';
import {
  check,
  computeDtypes,
  describeLevels,
  expectBits,
  expectClose,
  Random,
  roundoff,
  seeds,
  withScope,
} from './support.ts';

interface Shape {
  rows: number;
  dim: number;
  vocab: number;
  dtype: 'f32' | 'bf16';
  /** Out of 8, how many rows weigh something. */
  weighed: number;
  hasDw: boolean;
  seed: number;
}

type Inputs = ReturnType<typeof inputs>;

function inputs({ rows, dim, vocab, dtype, weighed, seed }: Shape) {
  const random = new Random(seed);
  const a = random.floats(rows * dim, dtype, 2);
  const weights = random.floats(rows).map((x) => (random.below(8) < weighed ? x : 0));
  const w = random.floats(vocab * dim, dtype);
  return { a, weights, w, ids: random.ints(rows, vocab), dw: random.floats(vocab * dim) };
}

function run(device: Device, shape: Shape, of: Inputs) {
  return withScope(device, (s) => {
    const { rows, dim, vocab, dtype, hasDw } = shape;
    const [loss, da, dw] = [s.out([rows]), s.out([rows, dim]), s.floats(of.dw, [vocab, dim])];
    ops.sync.cross_entropy_head({
      a: s.floats(of.a, [rows, dim], dtype),
      w: s.floats(of.w, [vocab, dim], dtype, 'panels'),
      wt: s.floats(transpose(of.w, vocab, dim), [dim, vocab], dtype, 'panels'),
      ids: s.ints(of.ids),
      weights: s.floats(of.weights, [rows]),
      loss,
      da,
      ...(hasDw ? { dw } : {}),
    });
    return { loss: loss.toFloat32Array(), da: da.toFloat32Array(), dw: dw.toFloat32Array() };
  });
}

function compare(device: Device, oneThread: Device, shape: Shape) {
  const of = inputs(shape);
  const unit = shape.dtype === 'bf16' ? roundoff('bf16') : 0;
  const expected = crossEntropyHead(of.a, of.w, of.ids, of.weights, shape, unit);
  const { loss, da, dw } = run(device, shape, of);
  expectClose(loss, expected.loss, (i) => expected.lossBound[i]!, 'loss');
  expectClose(da, expected.dx, (i) => expected.dxBound[i]!, 'da');
  if (shape.hasDw) {
    const { values, bounds } = headWeightGradient(expected, of.a, shape, unit);
    // At worst every row is added to what was there.
    expectClose(
      dw,
      values.map((x, i) => x + of.dw[i]!),
      (i) => bounds[i]! + sumBound(shape.rows + 1, Math.abs(of.dw[i]!)),
      'dw',
    );
  } else {
    expectBits(dw, of.dw, 'dw without its operand');
  }
  const alone = run(oneThread, shape, of);
  expectBits(alone.loss, loss, 'loss on one thread');
  expectBits(alone.da, da, 'da on one thread');
  expectBits(alone.dw, dw, 'dw on one thread');
}

describeLevels('cross_entropy_head', (device, oneThread) => {
  it('equals the reference on any shape and dtype', () =>
    check(
      fc.record({
        rows: fc.constantFrom(0, 1, 2, 5, 17),
        dim: fc.constantFrom(1, 7, 32, 65),
        vocab: fc.constantFrom(1, 2, 15, 63, 64, 65, 130, 515),
        dtype: computeDtypes,
        weighed: fc.constantFrom(0, 1, 4, 8),
        hasDw: fc.boolean(),
        seed: seeds,
      }),
      (shape) => compare(device, oneThread, shape),
      60,
    ));

  it.each([
    { rows: 4, dim: 256, vocab: 4096, weighed: 8 },
    { rows: 300, dim: 33, vocab: 129, weighed: 8 },
    { rows: 1100, dim: 16, vocab: 65, weighed: 4 },
  ])('takes many rows and tokens: %o', (shape) => {
    for (const dtype of ['f32', 'bf16'] as const)
      compare(device, oneThread, { ...shape, dtype, hasDw: true, seed: 11 });
  });
});

it('the reference is the gradient of its losses', () =>
  check(
    fc.tuple(fc.constantFrom(1, 2, 4), fc.constantFrom(1, 4), fc.constantFrom(1, 2, 9), seeds),
    ([rows, dim, vocab, seed]) => {
      const shape = { rows, dim, vocab };
      const of = inputs({ ...shape, dtype: 'f32', weighed: 8, hasDw: true, seed });
      const [a, w] = [Float64Array.from(of.a), Float64Array.from(of.w)];
      const head = () => crossEntropyHead(a, w, of.ids, of.weights, shape, 0);
      const at = head();
      const { values: dw } = headWeightGradient(at, a, shape, 0);
      const total = () => head().loss.reduce((sum, x) => sum + x, 0);
      // The step's square times a third derivative of a few units, and 2^-53 of the loss over the step.
      differences(a, 1e-5, total).forEach((d, i) => void expect(d).toBeCloseTo(at.dx[i]!, 7));
      differences(w, 1e-5, total).forEach((d, i) => void expect(d).toBeCloseTo(dw[i]!, 7));
    },
    30,
  ));

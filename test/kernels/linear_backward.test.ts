import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type Device, ops } from '../../lib/kernels/index.ts';
import * as reference from './reference.ts';
import { differences, linearBackward } from './reference-heads.ts';
import {
  check,
  computeDtypes,
  describeLevels,
  expectBits,
  expectClose,
  Random,
  rowCounts,
  seeds,
  widths,
  withScope,
} from './support.ts';

interface Shape {
  rows: number;
  n: number;
  k: number;
  dtype: 'f32' | 'bf16';
  hasBias: boolean;
  seed: number;
}

function inputs({ rows, n, k, dtype, seed }: Shape) {
  const random = new Random(seed);
  const [a, dy] = [random.floats(rows * k, dtype), random.floats(rows * n, dtype)];
  return { a, dy, dw: random.floats(n * k), dbias: random.floats(n) };
}

function run(device: Device, shape: Shape) {
  return withScope(device, (s) => {
    const { rows, n, k, dtype, hasBias } = shape;
    const of = inputs(shape);
    const [dw, dbias] = [s.floats(of.dw, [n, k]), s.floats(of.dbias, [n])];
    ops.sync.linear_backward({
      a: s.floats(of.a, [rows, k], dtype),
      dy: s.floats(of.dy, [rows, n], dtype),
      dw,
      ...(hasBias ? { dbias } : {}),
    });
    return { dw: dw.toFloat32Array(), dbias: dbias.toFloat32Array() };
  });
}

function compare(device: Device, oneThread: Device, shape: Shape) {
  const { rows, n, k, hasBias } = shape;
  const of = inputs(shape);
  const expected = linearBackward(of.a, of.dy, rows, n, k);
  const { dw, dbias } = run(device, shape);
  const close = (actual: Float32Array, { values, magnitudes }: reference.Sums, old: Float32Array, what: string) =>
    expectClose(
      actual,
      values.map((x, i) => x + old[i]!),
      (i) => reference.sumBound(rows + 1, magnitudes[i]! + Math.abs(old[i]!)),
      what,
    );
  close(dw, expected.dw, of.dw, 'dw');
  if (hasBias) close(dbias, expected.dbias, of.dbias, 'dbias');
  else expectBits(dbias, of.dbias, 'dbias without its operand');
  const alone = run(oneThread, shape);
  expectBits(alone.dw, dw, 'dw on one thread');
  expectBits(alone.dbias, dbias, 'dbias on one thread');
}

describeLevels('linear_backward', (device, oneThread) => {
  it('adds dy^T a and the sum of rows on any shape and dtype, with the same bits on any number of threads', () =>
    check(
      fc.record({ rows: rowCounts, n: widths, k: widths, dtype: computeDtypes, hasBias: fc.boolean(), seed: seeds }),
      (shape) => compare(device, oneThread, shape),
      100,
    ));

  it.each([
    { rows: 300, n: 130, k: 256 },
    { rows: 1040, n: 385, k: 65 },
    { rows: 1041, n: 384, k: 31 },
    { rows: 2083, n: 7, k: 129 },
    { rows: 19, n: 800, k: 3 },
  ])('takes many rows and outputs: %o', (shape) => {
    for (const dtype of ['f32', 'bf16'] as const)
      compare(device, oneThread, { ...shape, dtype, hasBias: true, seed: 5 });
  });
});

it('the reference is the gradient of the product', () =>
  check(
    fc.tuple(fc.constantFrom(1, 2, 5), fc.constantFrom(1, 3), fc.constantFrom(1, 4), seeds),
    ([rows, n, k, seed]) => {
      const random = new Random(seed);
      const [a, dy, w, bias] = [rows * k, rows * n, n * k, n].map((count) => Float64Array.from(random.floats(count)));
      // A loss whose gradient by y is dy.
      const loss = () => reference.linear(a!, w!, bias!, rows, n, k).values.reduce((sum, y, i) => sum + y * dy![i]!, 0);
      const { dw, dbias } = linearBackward(a!, dy!, rows, n, k);
      // The loss is linear, so only rounding is left: 2^-53 of sums of a few ones, over a step of 2^-10.
      differences(w!, 2 ** -10, loss).forEach((d, i) => void expect(d).toBeCloseTo(dw.values[i]!, 9));
      differences(bias!, 2 ** -10, loss).forEach((d, i) => void expect(d).toBeCloseTo(dbias.values[i]!, 9));
    },
    30,
  ));

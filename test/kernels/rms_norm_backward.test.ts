import fc from 'fast-check';
import { it } from 'vitest';
import { type Device, ops } from '../../lib/kernels/index.ts';
import * as reference from './reference.ts';
import { differences } from './reference-heads.ts';
import { rmsNormBackward } from './reference-rows.ts';
import {
  check,
  describeLevels,
  expectBits,
  expectClose,
  Random,
  rowCounts,
  seeds,
  widths,
  withScope,
} from './support.ts';

const eps = 1e-5;

interface Shape {
  rows: number;
  dim: number;
  seed: number;
}

function inputs({ rows, dim, seed }: Shape) {
  const random = new Random(seed);
  const [x, dout, dx] = [0, 1, 2].map(() => random.floats(rows * dim, 'f32', 3)) as [
    Float32Array,
    Float32Array,
    Float32Array,
  ];
  return { x, dout, dx, w: random.floats(dim, 'f32', 2), dw: random.floats(dim) };
}

function run(device: Device, shape: Shape, withWeights = true) {
  return withScope(device, (s) => {
    const { rows, dim } = shape;
    const of = inputs(shape);
    const [dx, dw] = [s.floats(of.dx, [rows, dim]), s.floats(of.dw, [dim])];
    const operands = { x: s.floats(of.x, [rows, dim]), w: s.floats(of.w, [dim]), dout: s.floats(of.dout, [rows, dim]) };
    ops.sync.rms_norm_backward(withWeights ? { ...operands, dx, dw } : { ...operands, dx }, { eps });
    return { dx: dx.toFloat32Array(), dw: dw.toFloat32Array() };
  });
}

function compare(device: Device, oneThread: Device, shape: Shape): void {
  const of = inputs(shape);
  const { dx, dw } = run(device, shape);
  const expected = rmsNormBackward(of.x, of.w, of.dout, eps, shape.rows, shape.dim, of);
  expectClose(dx, expected.dx.values, (i) => expected.dx.bounds[i]!, 'dx');
  expectClose(dw, expected.dw.values, (i) => expected.dw.bounds[i]!, 'dw');
  const alone = run(oneThread, shape);
  expectBits(alone.dx, dx, 'dx on one thread');
  expectBits(alone.dw, dw, 'dw on one thread');
  const frozen = run(device, shape, false);
  expectBits(frozen.dx, dx, 'dx without dw');
  expectBits(frozen.dw, of.dw, 'dw that is no operand');
}

describeLevels('rms_norm_backward', (device, oneThread) => {
  it('equals the reference on any shape, with and without dw', () =>
    check(fc.record({ rows: rowCounts, dim: widths, seed: seeds }), (shape) => compare(device, oneThread, shape)));

  it.each([
    [63, 255],
    [64, 256],
    [65, 257],
    [129, 513],
    [300, 1000],
  ])('takes pieces of rows and columns: %i x %i', (rows, dim) => compare(device, oneThread, { rows, dim, seed: 5 }));

  it('of a row of zeros is finite', () =>
    withScope(device, (s) => {
      const dx = s.floats(new Float32Array(17), [1, 17]);
      const ones = new Float32Array(17).fill(1);
      ops.sync.rms_norm_backward(
        { x: s.floats(new Float32Array(17), [1, 17]), w: s.floats(ones, [17]), dout: s.floats(ones, [1, 17]), dx },
        { eps },
      );
      expectClose(dx.toFloat32Array(), new Float64Array(17).fill(1 / Math.sqrt(eps)), () => 1e-4);
    }));
});

it('the reference of rms_norm_backward agrees with differences of the forward pass', () =>
  check(fc.record({ rows: fc.constantFrom(1, 2, 5), dim: fc.constantFrom(1, 2, 7, 16), seed: seeds }), (shape) => {
    const { rows, dim } = shape;
    const of = inputs(shape);
    const [x, w] = [Float64Array.from(of.x), Float64Array.from(of.w)];
    const loss = () => reference.rmsNorm(x, w, eps, rows, dim).reduce((sum, y, i) => sum + y * of.dout[i]!, 0);
    const zero = { dx: new Float64Array(rows * dim), dw: new Float64Array(dim) };
    const { dx, dw } = rmsNormBackward(x, w, of.dout, eps, rows, dim, zero);
    // What differences miss is a third derivative, which grows with the length of the row to the power of -3.
    const bound = (i: number) => {
      const row = Math.floor(i / dim);
      const mean = x.subarray(row * dim, (row + 1) * dim).reduce((sum, y) => sum + y * y, 0) / dim;
      return 1e-7 + 1e-9 * dim * (mean + eps) ** -1.5;
    };
    expectClose(differences(x, 1e-5, loss), dx.values, bound, 'dx');
    expectClose(differences(w, 1e-5, loss), dw.values, () => 1e-7, 'dw');
  }));

import fc from 'fast-check';
import { it } from 'vitest';
import { type Device, ops } from '../../lib/kernels/index.ts';
import { differences } from './reference-heads.ts';
import { mse } from './reference-rows.ts';
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

interface Shape {
  rows: number;
  dim: number;
  seed: number;
}

function inputs({ rows, dim, seed }: Shape) {
  const random = new Random(seed);
  const [x, target, dx] = [0, 1, 2].map(() => random.floats(rows * dim, 'f32', 3)) as [
    Float32Array,
    Float32Array,
    Float32Array,
  ];
  return { x, target, dx, weights: random.floats(rows).map((w) => (random.below(3) === 0 ? 0 : w)) };
}

function run(device: Device, shape: Shape) {
  return withScope(device, (s) => {
    const { rows, dim } = shape;
    const of = inputs(shape);
    const [loss, dx] = [s.out([rows]), s.floats(of.dx, [rows, dim])];
    ops.sync.mse({
      x: s.floats(of.x, [rows, dim]),
      target: s.floats(of.target, [rows, dim]),
      weights: s.floats(of.weights, [rows]),
      loss,
      dx,
    });
    return { loss: loss.toFloat32Array(), dx: dx.toFloat32Array() };
  });
}

function compare(device: Device, oneThread: Device, shape: Shape): void {
  const of = inputs(shape);
  const { loss, dx } = run(device, shape);
  const expected = mse(of.x, of.target, of.weights, shape.rows, shape.dim, of);
  expectClose(loss, expected.loss.values, (i) => expected.loss.bounds[i]!, 'loss');
  expectClose(dx, expected.dx.values, (i) => expected.dx.bounds[i]!, 'dx');
  const alone = run(oneThread, shape);
  expectBits(alone.loss, loss, 'loss on one thread');
  expectBits(alone.dx, dx, 'dx on one thread');
}

describeLevels('mse', (device, oneThread) => {
  it('equals the reference on any shape', () =>
    check(fc.record({ rows: rowCounts, dim: widths, seed: seeds }), (shape) => compare(device, oneThread, shape)));

  it('takes many rows and wide ones', () => {
    compare(device, oneThread, { rows: 1000, dim: 65, seed: 1 });
    compare(device, oneThread, { rows: 9, dim: 4097, seed: 2 });
  });
});

it('the reference of mse agrees with differences of the forward pass', () =>
  check(fc.record({ rows: fc.constantFrom(1, 2, 5), dim: fc.constantFrom(1, 2, 7), seed: seeds }), (shape) => {
    const { rows, dim } = shape;
    const { x: inputX, target, weights } = inputs(shape);
    const x = Float64Array.from(inputX);
    const of = () => mse(x, target, weights, rows, dim, { dx: new Float64Array(rows * dim) });
    const loss = () => of().loss.values.reduce((sum, l) => sum + l, 0);
    expectClose(differences(x, 1e-4, loss), of().dx.values, () => 1e-8);
  }));

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type Device, ops } from '../../lib/kernels/index.ts';
import { siluMul, siluMulBackward } from './reference-rows.ts';
import {
  check,
  computeDtypes,
  describeLevels,
  expectBits,
  expectClose,
  Random,
  roundoff,
  rowCounts,
  seeds,
  widths,
  withScope,
} from './support.ts';

interface Shape {
  rows: number;
  ff: number;
  dtype: 'f32' | 'bf16';
  outDtype: 'f32' | 'bf16';
  seed: number;
}

function inputs({ rows, ff, dtype, seed }: Shape) {
  const random = new Random(seed);
  return { gateUp: random.floats(rows * 2 * ff, dtype, 20), dout: random.floats(rows * ff, 'f32', 2) };
}

function run(device: Device, shape: Shape): Float32Array {
  return withScope(device, (s) => {
    const { rows, ff, dtype, outDtype } = shape;
    const { gateUp, dout } = inputs(shape);
    const dGateUp = s.out([rows, 2 * ff], outDtype);
    ops.sync.silu_mul_backward({
      dout: s.floats(dout, [rows, ff]),
      gateUp: s.floats(gateUp, [rows, 2 * ff], dtype),
      dGateUp,
    });
    return dGateUp.toFloat32Array();
  });
}

function compare(device: Device, oneThread: Device, shape: Shape): void {
  const { rows, ff, outDtype } = shape;
  const { gateUp, dout } = inputs(shape);
  const [expected, bounds] = [new Float64Array(rows * 2 * ff), new Float64Array(rows * 2 * ff)];
  for (let i = 0; i < rows * ff; i++) {
    const at = Math.floor(i / ff) * 2 * ff + (i % ff);
    const { gate, up, bound } = siluMulBackward(gateUp[at]!, gateUp[at + ff]!, dout[i]!);
    [expected[at], expected[at + ff]] = [gate, up];
    [bounds[at], bounds[at + ff]] = bound as [number, number];
  }
  const actual = run(device, shape);
  // Rounded to the output's dtype, which may have one more error of it where a bound reaches over a tie.
  expectClose(actual, expected, (i) => bounds[i]! + roundoff(outDtype) * (Math.abs(expected[i]!) + bounds[i]!));
  expectBits(run(oneThread, shape), actual, 'output on one thread');
}

describeLevels('silu_mul_backward', (device, oneThread) => {
  it('equals the reference on any shape and dtype', () =>
    check(
      fc.record({ rows: rowCounts, ff: widths, dtype: computeDtypes, outDtype: computeDtypes, seed: seeds }),
      (shape) => compare(device, oneThread, shape),
    ));

  it.each([4095, 4096, 4097, 11008])('takes pieces of %i gates', (ff) => {
    for (const dtype of ['f32', 'bf16'] as const)
      compare(device, oneThread, { rows: 3, ff, dtype, outDtype: dtype, seed: 3 });
  });

  it('is 0 or dout up at the ends of the gate, without NaN', () =>
    withScope(device, (s) => {
      const gates = [-1e30, -200, -100, 0, 100, 200, 1e30];
      const dGateUp = s.out([1, 14]);
      ops.sync.silu_mul_backward({
        dout: s.floats(Array(7).fill(1), [1, 7]),
        gateUp: s.floats([...gates, ...Array(7).fill(2)], [1, 14]),
        dGateUp,
      });
      const actual = dGateUp.toFloat32Array();
      gates.forEach((gate, i) => {
        expect(actual[i], `of gate ${gate}`).toBeCloseTo(gate < 0 ? 0 : gate > 0 ? 2 : 1, 6);
        expect(actual[7 + i], `of up beside gate ${gate}`).toBeCloseTo(gate < 0 ? 0 : Math.fround(gate), 6);
      });
    }));
});

it('the reference of silu_mul_backward agrees with differences of the forward pass', () =>
  check(fc.tuple(seeds), ([seed]) => {
    const [gate, up, dout] = new Random(seed).floats(3, 'f32', 10) as unknown as [number, number, number];
    const step = 1e-5;
    const slope = (f: (at: number) => number) => (dout * (f(step) - f(-step))) / (2 * step);
    const of = siluMulBackward(gate, up, dout);
    const differences = [slope((h) => siluMul(gate + h, up)), slope((h) => siluMul(gate, up + h))];
    expectClose([of.gate, of.up], differences, () => 1e-7);
  }));

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type Device, ops } from '../../lib/kernels/index.ts';
import { sumSquares } from './reference-rows.ts';
import { check, describeLevels, expectBits, expectClose, Random, roundoff, seeds, withScope } from './support.ts';

function run(device: Device, values: ArrayLike<number>): Float32Array {
  return withScope(device, (s) => {
    const out = s.out([1]);
    ops.sync.sum_squares({ x: s.floats(values, [values.length]), out });
    return out.toFloat32Array();
  });
}

function compare(device: Device, oneThread: Device, values: Float32Array): void {
  const actual = run(device, values);
  const expected = sumSquares(values);
  // f64 is exact for what f32 shows of it: one rounding, and one more where the sum is beside a tie.
  expectClose(actual, [expected], () => roundoff('f32') * expected * (1 + 1e-6));
  expectBits(run(oneThread, values), actual, 'sum on one thread');
}

describeLevels('sum_squares', (device, oneThread) => {
  it('equals the reference at any length', () =>
    check(fc.tuple(fc.constantFrom(1, 2, 3, 15, 16, 17, 31, 32, 33, 63, 64, 65, 1000), seeds), ([count, seed]) =>
      compare(device, oneThread, new Random(seed).floats(count, 'f32', 10)),
    ));

  it.each([65535, 65536, 65537, 1000003])('takes pieces of %i values', (count) =>
    compare(device, oneThread, new Random(count).floats(count)),
  );

  it('does not lose small values beside large ones', () => {
    const values = new Float32Array(100001).fill(1e-2);
    values[50000] = 1000;
    // f32 would leave 1e6 as it is: 1e-4 is less than half of its unit.
    expect(run(device, values)[0]).toBeCloseTo(1e6 + 10, 0);
  });

  it('is NaN with a NaN, infinite with an infinity or where f32 cannot hold it', () => {
    const values = new Float32Array(40).fill(1);
    for (const [bad, expected] of [
      [Number.NaN, Number.NaN],
      [Number.NEGATIVE_INFINITY, Number.POSITIVE_INFINITY],
      [1e30, Number.POSITIVE_INFINITY],
    ] as const) {
      values[23] = bad;
      expect(run(device, values)[0]).toBe(expected);
    }
  });
});

import fc from 'fast-check';
import { it } from 'vitest';
import { type Device, ops } from '../../lib/kernels/index.ts';
import {
  check,
  computeDtypes,
  describeLevels,
  expectBits,
  Random,
  roundTo,
  rowCounts,
  seeds,
  widths,
  withScope,
} from './support.ts';

function run(device: Device, values: Float32Array, shape: [number, number], dtype: 'f32' | 'bf16'): Float32Array {
  return withScope(device, (s) => {
    const out = s.out(shape, dtype);
    ops.sync.cast_rows({ in: s.floats(values, shape), out });
    return out.toFloat32Array();
  });
}

describeLevels('cast_rows', (device, oneThread) => {
  it('rounds to nearest even on any shape', () =>
    check(fc.tuple(rowCounts, widths, computeDtypes, seeds), ([rows, dim, dtype, seed]) => {
      const values = new Random(seed).floats(rows * dim, 'f32', 3);
      const expected = values.map((x) => roundTo(dtype, x));
      for (const place of [device, oneThread]) expectBits(run(place, values, [rows, dim], dtype), expected);
    }));

  it('takes more than one piece, and the ends of one', () => {
    for (const count of [16383, 16384, 16385, 50000]) {
      const values = new Random(count).floats(count);
      const expected = values.map((x) => roundTo('bf16', x));
      for (const place of [device, oneThread]) expectBits(run(place, values, [1, count], 'bf16'), expected);
    }
  });

  it('keeps ties, subnormals, overflow, infinities and NaN as the conversion of tensors does', () => {
    const values = Float32Array.of(1 + 2 ** -8, 1 + 3 * 2 ** -8, 2 ** -133, 2 ** -140, 3.4e38, -3.4e38, 0, -0);
    const special = Float32Array.of(...values, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, Number.NaN);
    const converted = withScope(device, (s) => s.floats(special, [1, special.length], 'bf16').toFloat32Array());
    expectBits(run(device, special, [1, special.length], 'bf16'), converted);
  });
});

import fc from 'fast-check';
import { it } from 'vitest';
import { ops } from '../../lib/kernels/index.ts';
import {
  check,
  computeDtypes,
  describeLevels,
  expectBits,
  Random,
  rowCounts,
  seeds,
  widths,
  withScope,
} from './support.ts';

describeLevels('copy_rows', (device) => {
  it('widens exactly', () =>
    check(fc.tuple(rowCounts, widths, computeDtypes, seeds), ([rows, dim, dtype, seed]) =>
      withScope(device, (s) => {
        const values = new Random(seed).floats(rows * dim, dtype);
        const out = s.out([rows, dim]);
        ops.sync.copy_rows({ in: s.floats(values, [rows, dim], dtype), out });
        expectBits(out.toFloat32Array(), values);
      }),
    ));
});

import fc from 'fast-check';
import { it } from 'vitest';
import { ops, Tensor } from '../../lib/kernels/index.ts';
import * as reference from './reference.ts';
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

describeLevels('quantize_rows', (device) => {
  it('gives the codes and scales of the reference, bit for bit', () =>
    check(fc.tuple(rowCounts, widths, computeDtypes, seeds), ([rows, dim, dtype, seed]) =>
      withScope(device, (s) => {
        const random = new Random(seed);
        const a = random.floats(rows * dim, dtype, 10 ** (random.below(7) - 3));
        if (rows > 1) a.fill(0, dim, 2 * dim);
        const codes = s.own(Tensor.zeros(device, [rows, dim], { dtype: 'u8' }));
        const scales = s.out([rows]);
        ops.sync.quantize_rows({ a: s.floats(a, [rows, dim], dtype), codes, scales });
        const expectedScales = new Float32Array(rows);
        const expectedCodes = new Uint8Array(rows * dim);
        for (let r = 0; r < rows; r++) {
          const row = a.subarray(r * dim, (r + 1) * dim);
          expectedScales[r] = reference.fp8Scale(row);
          row.forEach((v, i) => {
            expectedCodes[r * dim + i] = reference.encodeFp8(Math.fround(v / expectedScales[r]!));
          });
        }
        expectBits(scales.toFloat32Array(), expectedScales);
        expectBits(codes.toBytes(), expectedCodes);
      }),
    ));
});

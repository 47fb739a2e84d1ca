import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ops } from '../../lib/kernels/index.ts';
import * as reference from './reference.ts';
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

const eps = 1e-5;

describeLevels('rms_norm', (device) => {
  it('equals the reference on any shape', () => {
    check(fc.tuple(rowCounts, widths, computeDtypes, seeds), ([rows, dim, dtype, seed]) =>
      withScope(device, (s) => {
        const random = new Random(seed);
        const [x, w] = [random.floats(rows * dim, 'f32', 3), random.floats(dim)];
        const out = s.out([rows, dim], dtype);
        ops.sync.rms_norm({ x: s.floats(x, [rows, dim]), w: s.floats(w, [dim]), out }, { eps });
        const expected = reference.rmsNorm(x, w, eps, rows, dim);
        // The mean of squares is off by (dim + 2) units, the square root halves that; then four roundings in f32 and
        // one to the output's dtype.
        const relative = ((dim + 2) / 2 + 4) * roundoff('f32') + roundoff(dtype);
        expectClose(out.toFloat32Array(), expected, (i) => relative * Math.abs(expected[i]!));
      }),
    );
  });

  it('of a row of zeros is zero, not NaN', () =>
    withScope(device, (s) => {
      const out = s.out([2, 17]);
      ops.sync.rms_norm(
        { x: s.floats(new Float32Array(34), [2, 17]), w: s.floats(new Float32Array(17).fill(1), [17]), out },
        { eps },
      );
      expect([...out.toFloat32Array()]).toEqual(Array(34).fill(0));
    }));

  it('gives a row the same bits alone and among others', () =>
    check(fc.tuple(widths, computeDtypes, seeds), ([dim, dtype, seed]) =>
      withScope(device, (s) => {
        const random = new Random(seed);
        const [x, w] = [random.floats(19 * dim), s.floats(random.floats(dim), [dim])];
        const all = s.out([19, dim], dtype);
        ops.sync.rms_norm({ x: s.floats(x, [19, dim]), w, out: all }, { eps });
        const row = random.below(19);
        const alone = s.out([1, dim], dtype);
        ops.sync.rms_norm({ x: s.floats(x.subarray(row * dim, (row + 1) * dim), [1, dim]), w, out: alone }, { eps });
        expectBits(alone.toBytes(), all.toBytes().subarray(row * alone.byteLength, (row + 1) * alone.byteLength));
      }),
    ));
});

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ops } from '../../lib/kernels/index.ts';
import {
  check,
  computeDtypes,
  describeLevels,
  expectClose,
  Random,
  roundoff,
  rowCounts,
  seeds,
  widths,
  withScope,
} from './support.ts';

// 1 / (1 + e^-g): the exponential is good for 4 units, the sum, the quotient and the product for half a unit each; a unit
// is 2 roundoffs. Below e^-87 the result is under the smallest normal f32.
const relative = 12 * roundoff('f32');
const silu = (g: number) => g / (1 + Math.exp(-g));

describeLevels('silu_mul', (device) => {
  it('equals the reference on any shape', () =>
    check(fc.tuple(rowCounts, widths, computeDtypes, computeDtypes, seeds), ([rows, ff, dtype, outDtype, seed]) =>
      withScope(device, (s) => {
        const random = new Random(seed);
        const gateUp = random.floats(rows * 2 * ff, dtype, 20);
        const out = s.out([rows, ff], outDtype);
        ops.sync.silu_mul({ gateUp: s.floats(gateUp, [rows, 2 * ff], dtype), out });
        const expected = Float64Array.from({ length: rows * ff }, (_, i) => {
          const at = Math.floor(i / ff) * 2 * ff + (i % ff);
          return silu(gateUp[at]!) * gateUp[at + ff]!;
        });
        expectClose(out.toFloat32Array(), expected, (i) => (relative + roundoff(outDtype)) * Math.abs(expected[i]!));
      }),
    ));

  it('goes to 0 and to the gate at its ends, without NaN', () =>
    withScope(device, (s) => {
      const gates = [-1e30, -200, -100, -0, 0, 100, 200, 1e30];
      const out = s.out([1, 8]);
      ops.sync.silu_mul({ gateUp: s.floats([...gates, ...Array(8).fill(1)], [1, 16]), out });
      const actual = out.toFloat32Array();
      gates.forEach((g, i) => {
        expect(actual[i], `gate ${g}`).toBeCloseTo(g < 0 ? 0 : Math.fround(g), 6);
      });
    }));
});

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ops } from '../../lib/kernels/index.ts';
import {
  check,
  computeDtypes,
  describeLevels,
  expectBits,
  layouts,
  Random,
  rowCounts,
  seeds,
  widths,
  withScope,
} from './support.ts';

describeLevels('embed', (device) => {
  it('copies the rows of the table exactly, from either layout', () =>
    check(
      fc.tuple(rowCounts, widths, widths, computeDtypes, layouts, seeds),
      ([rows, vocab, dim, dtype, layout, seed]) =>
        withScope(device, (s) => {
          const random = new Random(seed);
          const table = random.floats(vocab * dim, dtype);
          const ids = random.ints(rows, vocab);
          const x = s.out([rows, dim]);
          ops.sync.embed({ ids: s.ints(ids), table: s.floats(table, [vocab, dim], dtype, layout), x });
          const expected = Float32Array.from({ length: rows * dim }, (_, i) => {
            return table[ids[Math.floor(i / dim)]! * dim + (i % dim)]!;
          });
          expectBits(x.toFloat32Array(), expected);
        }),
    ));

  it('refuses ids outside the table', () =>
    withScope(device, (s) => {
      const table = s.floats(new Float32Array(12), [4, 3]);
      for (const id of [-1, 4, 2 ** 31 - 1, -(2 ** 31)]) {
        const call = () => ops.sync.embed({ ids: s.ints([0, id]), table, x: s.out([2, 3]) });
        expect(call, `id ${id}`).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }));
      }
    }));
});

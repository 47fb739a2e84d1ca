import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ops } from '../../lib/kernels/index.ts';
import { check, describeLevels, expectBits, Random, rowCounts, seeds, widths, withScope } from './support.ts';

describeLevels('gather_rows', (device) => {
  it('copies the rows asked for, in order, repeated or not', () =>
    check(fc.tuple(rowCounts, fc.constantFrom(1, 2, 17, 33), widths, seeds), ([rows, source, dim, seed]) =>
      withScope(device, (s) => {
        const random = new Random(seed);
        const x = random.floats(source * dim);
        const index = random.ints(rows, source);
        const out = s.out([rows, dim]);
        ops.sync.gather_rows({ x: s.floats(x, [source, dim]), index: s.ints(index), out });
        const expected = Float32Array.from({ length: rows * dim }, (_, i) => {
          return x[index[Math.floor(i / dim)]! * dim + (i % dim)]!;
        });
        expectBits(out.toFloat32Array(), expected);
      }),
    ));

  it('refuses rows that do not exist', () =>
    withScope(device, (s) => {
      const x = s.floats(new Float32Array(6), [2, 3]);
      for (const row of [-1, 2]) {
        const call = () => ops.sync.gather_rows({ x, index: s.ints([row]), out: s.out([1, 3]) });
        expect(call, `row ${row}`).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }));
      }
    }));
});

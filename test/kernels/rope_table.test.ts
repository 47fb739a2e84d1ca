import fc from 'fast-check';
import { it } from 'vitest';
import { ops } from '../../lib/kernels/index.ts';
import * as reference from './reference.ts';
import { check, describeLevels, expectClose, headDims, Random, seeds, withScope } from './support.ts';

// A cosine or sine rounded to f32, one unit allowed for the library's own error.
const bound = 1.5 * 2 ** -24;

describeLevels('rope_table', (device) => {
  it('equals the reference', () =>
    check(fc.tuple(fc.constantFrom(0, 1, 2, 17, 64), headDims, seeds), ([positions, headDim, seed]) =>
      withScope(device, (s) => {
        const random = new Random(seed);
        const invFreq = Float32Array.from({ length: headDim / 2 }, (_, i) => 1e4 ** (-i / headDim) * random.next());
        const table = s.out([positions, headDim]);
        ops.sync.rope_table({ invFreq: s.floats(invFreq, [headDim / 2]), table });
        expectClose(table.toFloat32Array(), reference.ropeTable(invFreq, positions), () => bound);
      }),
    ));

  it('stays exact at angles of a long context (range reduction)', () =>
    withScope(device, (s) => {
      const positions = 131_072;
      const table = s.out([positions, 4]);
      ops.sync.rope_table({ invFreq: s.floats([1, 0.731], [2]), table });
      expectClose(table.toFloat32Array(), reference.ropeTable([1, Math.fround(0.731)], positions), () => bound);
    }));
});

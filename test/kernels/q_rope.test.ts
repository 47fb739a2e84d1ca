import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ops } from '../../lib/kernels/index.ts';
import * as reference from './reference.ts';
import {
  check,
  computeDtypes,
  describeLevels,
  expectClose,
  headDims,
  Random,
  roundoff,
  rowCounts,
  seeds,
  widths,
  withScope,
} from './support.ts';

const numPositions = 40;
const eps = 1e-5;

describeLevels('q_rope', (device) => {
  it('equals the reference on any shape', () => {
    const shapes = fc.record({
      rows: rowCounts,
      dim: widths,
      heads: fc.constantFrom(1, 2, 3, 8),
      hd: headDims,
      dtype: computeDtypes,
      qDtype: computeDtypes,
      hasBias: fc.boolean(),
      hasNorm: fc.boolean(),
      seed: seeds,
    });
    check(shapes, ({ rows, dim, heads, hd, dtype, qDtype, hasBias, hasNorm, seed }) =>
      withScope(device, (s) => {
        const random = new Random(seed);
        const width = heads * hd;
        const [a, w] = [random.floats(rows * dim, dtype), random.floats(width * dim, dtype)];
        const bias = hasBias ? random.floats(width) : null;
        const norm = hasNorm ? random.floats(hd) : null;
        const rope = random.floats(numPositions * hd);
        const positions = random.ints(rows, numPositions);
        const q = s.out([rows, heads, hd], qDtype);
        ops.sync.q_rope(
          {
            a: s.floats(a, [rows, dim], dtype),
            w: s.floats(w, [width, dim], dtype, 'panels'),
            ...(bias ? { bias: s.floats(bias, [width]) } : {}),
            ...(norm ? { qNorm: s.floats(norm, [hd]) } : {}),
            rope: s.floats(rope, [numPositions, hd]),
            positions: s.ints(positions),
            q,
          },
          norm ? { eps } : {},
        );
        const expected = reference.linear(a, w, bias, rows, width, dim);
        if (norm) reference.normHeads(expected, () => norm, eps, hd, dim + 4);
        reference.rotate(expected, rope, positions, rows, heads, hd);
        expectClose(
          q.toFloat32Array(),
          expected.values,
          (i) =>
            reference.sumBound(dim + 4, expected.magnitudes[i]!) +
            roundoff(qDtype) * Math.abs(expected.values[i]!) * 1.01,
        );
      }),
    );
  });

  it('refuses a norm without eps or of another width', () =>
    withScope(device, (s) => {
      const operands = {
        a: s.floats([1], [1, 1]),
        w: s.floats([1, 1], [2, 1], 'f32', 'panels'),
        rope: s.floats([1, 0], [1, 2]),
        positions: s.ints([0]),
        q: s.out([1, 1, 2]),
      };
      const qNorm = s.floats([1, 1], [2]);
      expect(() => ops.sync.q_rope({ ...operands, qNorm })).toThrow(/above 0 for attribute eps with operand qNorm/);
      expect(() => ops.sync.q_rope({ ...operands, qNorm }, { eps: -1 })).toThrow(/above 0 for attribute eps/);
      expect(() => ops.sync.q_rope({ ...operands, qNorm: s.floats([1], [1]) }, { eps })).toThrow(
        /operand qNorm has shape \[1\], expected \[hd\] with hd = 2/,
      );
      ops.sync.q_rope({ ...operands, qNorm }, { eps });
    }));

  it('refuses positions outside the table', () =>
    withScope(device, (s) => {
      const rope = s.floats(new Float32Array(6), [3, 2]);
      for (const position of [-1, 3]) {
        const positions = s.ints([position]);
        const operands = { a: s.floats([1], [1, 1]), w: s.floats([1, 1], [2, 1], 'f32', 'panels'), rope, positions };
        const call = () => ops.sync.q_rope({ ...operands, q: s.out([1, 1, 2]) });
        expect(call, `position ${position}`).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }));
      }
    }));
});

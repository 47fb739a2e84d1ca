import fc from 'fast-check';
import { it } from 'vitest';
import { type Device, ops } from '../../lib/kernels/index.ts';
import { transpose } from './reference-heads.ts';
import { check, computeDtypes, describeLevels, expectBits, Random, seeds, widths, withScope } from './support.ts';

const special = [0, -0, Number.NaN, Number.POSITIVE_INFINITY, -3.4e38, 1e-40, -1e-45, 1.00390625, 1.01171875];

describeLevels('pack_weight', (device, oneThread) => {
  it('packs a matrix and its transpose, bit for bit as a tensor is made from the same numbers', () =>
    check(
      fc.record({ n: widths, k: widths, dtype: computeDtypes, both: fc.boolean(), seed: seeds }),
      ({ n, k, dtype, both, seed }) => {
        const random = new Random(seed);
        const values = random.floats(n * k).map((x) => (random.below(8) ? x : special[random.below(special.length)]!));
        const across = transpose(values, n, k);
        const run = (on: Device) =>
          withScope(on, (s) => {
            // What was there before must not show.
            const stale = (rows: number, width: number) =>
              s.floats(new Float32Array(rows * width).fill(7), [rows, width], dtype, 'panels');
            const [dst, transposed] = [stale(n, k), stale(k, n)];
            ops.sync.pack_weight({ src: s.floats(values, [n, k]), dst, ...(both ? { transposed } : {}) });
            expectBits(dst.toFloat32Array(), s.floats(values, [n, k], dtype, 'panels').toFloat32Array(), 'dst');
            if (both)
              expectBits(
                transposed.toFloat32Array(),
                s.floats(across, [k, n], dtype, 'panels').toFloat32Array(),
                'transposed',
              );
          });
        run(device);
        run(oneThread);
      },
      100,
    ));

  it('packs large matrices', () =>
    withScope(device, (s) => {
      const [n, k] = [513, 1026];
      const values = new Random(3).floats(n * k);
      for (const dtype of ['f32', 'bf16'] as const) {
        const zeros = (rows: number, width: number) =>
          s.floats(new Float32Array(rows * width), [rows, width], dtype, 'panels');
        const [dst, transposed] = [zeros(n, k), zeros(k, n)];
        ops.sync.pack_weight({ src: s.floats(values, [n, k]), dst, transposed });
        expectBits(dst.toFloat32Array(), s.floats(values, [n, k], dtype, 'panels').toFloat32Array(), 'dst');
        const across = transpose(values, n, k);
        expectBits(
          transposed.toFloat32Array(),
          s.floats(across, [k, n], dtype, 'panels').toFloat32Array(),
          'transposed',
        );
      }
    }));
});

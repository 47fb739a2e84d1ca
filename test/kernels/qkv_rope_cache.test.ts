import fc from 'fast-check';
import { it } from 'vitest';
import { ops } from '../../lib/kernels/index.ts';
import { type CacheKind, cacheKinds, makeCache, readCache, type TestCache, writeSentinels } from './caches.ts';
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

describeLevels('qkv_rope_cache', (device) => {
  it('gives the rotated q, and k and v in the pages', () => {
    const shapes = fc.record({
      rows: rowCounts,
      dim: widths,
      hk: fc.constantFrom(1, 2, 3),
      group: fc.constantFrom(1, 2, 4),
      hd: headDims,
      dtype: computeDtypes,
      qDtype: computeDtypes,
      kind: cacheKinds,
      hasBias: fc.boolean(),
      norms: fc.constantFrom('none', 'q', 'k', 'both'),
      seed: seeds,
    });
    check(shapes, ({ rows, dim, hk, group, hd, dtype, qDtype, kind, hasBias, norms, seed }) =>
      withScope(device, (s) => {
        const random = new Random(seed);
        const hq = hk * group;
        const width = (hq + 2 * hk) * hd;
        const a = random.floats(rows * dim, dtype);
        const w = random.floats(width * dim, dtype);
        const bias = hasBias ? random.floats(width) : null;
        const qNorm = norms === 'q' || norms === 'both' ? random.floats(hd) : null;
        const kNorm = norms === 'k' || norms === 'both' ? random.floats(hd) : null;
        const rope = random.floats(numPositions * hd);
        const positions = random.ints(rows, numPositions);
        const slots = random.permutation(48).slice(0, rows);
        if (rows > 1) slots[random.below(rows)] = -1;
        const q = s.out([rows, hq, hd], qDtype);
        const operands = {
          a: s.floats(a, [rows, dim], dtype),
          w: s.floats(w, [width, dim], dtype, 'panels'),
          ...(bias ? { bias: s.floats(bias, [width]) } : {}),
          ...(qNorm ? { qNorm: s.floats(qNorm, [hd]) } : {}),
          ...(kNorm ? { kNorm: s.floats(kNorm, [hd]) } : {}),
          rope: s.floats(rope, [numPositions, hd]),
          positions: s.ints(positions),
          slots: s.ints(slots),
          q,
        };
        const stored = (storage: CacheKind): [TestCache, ReturnType<typeof readCache>] => {
          const pool = makeCache(s, { kind: storage, numBlocks: 3, numKvHeads: hk, headDim: hd, random });
          writeSentinels(s, pool.cache(0));
          ops.sync.qkv_rope_cache(
            { ...operands, cache: pool.cache(0) },
            { numHeads: hq, ...(norms === 'none' ? {} : { eps }) },
          );
          return [pool, readCache(s, pool.cache(0))];
        };

        const all = reference.linear(a, w, bias, rows, width, dim);
        const expectedQ = reference.columns(all, width, 0, hq * hd);
        const expectedK = reference.columns(all, width, hq * hd, hk * hd);
        const expectedV = reference.columns(all, width, (hq + hk) * hd, hk * hd);
        if (qNorm) reference.normHeads(expectedQ, () => qNorm, eps, hd, dim + 4);
        if (kNorm) reference.normHeads(expectedK, () => kNorm, eps, hd, dim + 4);
        reference.rotate(expectedQ, rope, positions, rows, hq, hd);
        reference.rotate(expectedK, rope, positions, rows, hk, hd);
        // Three more roundings: bias, product and sum of the rotation.
        const bound = (x: reference.Sums, i: number) => reference.sumBound(dim + 4, x.magnitudes[i]!);

        const [, exact] = stored('f32');
        expectClose(
          q.toFloat32Array(),
          expectedQ.values,
          (i) => bound(expectedQ, i) + roundoff(qDtype) * Math.abs(expectedQ.values[i]!) * 1.01,
          'q',
        );
        const sentinels = makeCache(s, { kind: 'f32', numBlocks: 3, numKvHeads: hk, headDim: hd, random });
        writeSentinels(s, sentinels.cache(0));
        const untouched = readCache(s, sentinels.cache(0));
        for (const [part, expected] of [
          ['k', expectedK],
          ['v', expectedV],
        ] as const) {
          const values = Float64Array.from(untouched[part]);
          const bounds = new Float64Array(values.length);
          slots.forEach((slot, row) => {
            for (let i = 0; i < hk * hd && slot >= 0; i++) {
              values[slot * hk * hd + i] = expected.values[row * hk * hd + i]!;
              bounds[slot * hk * hd + i] = bound(expected, row * hk * hd + i);
            }
          });
          expectClose(exact[part], values, (i) => bounds[i]!, part);
        }
        if (kind === 'f32') return;

        // The other kinds store the same f32 values, rounded: compare bits with what the f32 cache got.
        const [other, rounded] = stored(kind);
        for (const part of ['k', 'v'] as const) {
          for (const slot of slots.filter((x) => x >= 0)) {
            for (let h = 0; h < hk; h++) {
              const at = (slot * hk + h) * hd;
              const expected = reference.throughCache(
                exact[part].subarray(at, at + hd),
                other.dtype,
                other.staticScale(part, h),
              );
              expectClose(rounded[part].subarray(at, at + hd), expected, () => 0, `${part} of ${kind} at slot ${slot}`);
            }
          }
        }
      }),
    );
  });
});

import fc from 'fast-check';
import { it } from 'vitest';
import { ops } from '../../lib/kernels/index.ts';
import { type CacheKind, cacheKinds, makeCache, readCache, writeSentinels } from './caches.ts';
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

describeLevels('swiftkv_project', (device) => {
  it('writes the rotated k and the v of every group to its cache', () => {
    const shapes = fc.record({
      rows: rowCounts,
      dim: widths,
      groups: fc.constantFrom(1, 2, 3),
      hk: fc.constantFrom(1, 2),
      hd: headDims,
      dtype: computeDtypes,
      kind: cacheKinds,
      hasBias: fc.boolean(),
      hasNorm: fc.boolean(),
      seed: seeds,
    });
    check(shapes, ({ rows, dim, groups, hk, hd, dtype, kind, hasBias, hasNorm, seed }) =>
      withScope(device, (s) => {
        const random = new Random(seed);
        const width = groups * 2 * hk * hd;
        const x = random.floats(rows * dim, 'f32', 3);
        const norm = random.floats(dim);
        const w = random.floats(width * dim, dtype);
        const bias = hasBias ? random.floats(width) : null;
        const kNorm = hasNorm ? random.floats(groups * hd) : null;
        const rope = random.floats(numPositions * hd);
        const positions = random.ints(rows, numPositions);
        const slots = random.permutation(48).slice(0, rows);
        if (rows > 1) slots[random.below(rows)] = -1;
        const operands = {
          x: s.floats(x, [rows, dim]),
          norm: s.floats(norm, [dim]),
          w: s.floats(w, [width, dim], dtype, 'panels'),
          ...(bias ? { bias: s.floats(bias, [width]) } : {}),
          ...(kNorm ? { kNorm: s.floats(kNorm, [groups, hd]) } : {}),
          rope: s.floats(rope, [numPositions, hd]),
          positions: s.ints(positions),
          slots: s.ints(slots),
        };
        const stored = (storage: CacheKind) => {
          const shape = { kind: storage, numBlocks: 3, numCaches: groups, numKvHeads: hk, headDim: hd, random };
          const pool = makeCache(s, shape);
          for (const cache of pool.caches) writeSentinels(s, cache);
          const before = pool.caches.map((cache) => readCache(s, cache));
          ops.sync.swiftkv_project({ ...operands, caches: pool.caches }, { eps });
          return { pool, before, after: pool.caches.map((cache) => readCache(s, cache)) };
        };

        // The normed row is rounded to the weights' dtype before the product: an error of that roundoff (and of the
        // norm itself, see rms_norm) in every factor.
        const z = reference.rmsNorm(x, norm, eps, rows, dim);
        const zError = ((dim + 2) / 2 + 4) * roundoff('f32') + roundoff(dtype);
        const all = reference.linear(z, w, bias, rows, width, dim);
        const exact = stored('f32');
        for (let g = 0; g < groups; g++) {
          for (const part of ['k', 'v'] as const) {
            const from = (2 * g + (part === 'k' ? 0 : 1)) * hk * hd;
            const expected = reference.columns(all, width, from, hk * hd);
            // Both errors as one magnitude, which the norm carries on.
            const share = zError / reference.sumBound(dim + 4, 1) + 1;
            expected.magnitudes.forEach((m, i) => {
              expected.magnitudes[i] = m * share;
            });
            const weights = kNorm?.subarray(g * hd, (g + 1) * hd);
            if (part === 'k' && weights) reference.normHeads(expected, () => weights, eps, hd, dim + 4);
            if (part === 'k') reference.rotate(expected, rope, positions, rows, hk, hd);
            const values = Float64Array.from(exact.before[g]![part]);
            const bounds = new Float64Array(values.length);
            slots.forEach((slot, row) => {
              for (let i = 0; i < hk * hd && slot >= 0; i++) {
                const magnitude = expected.magnitudes[row * hk * hd + i]!;
                values[slot * hk * hd + i] = expected.values[row * hk * hd + i]!;
                bounds[slot * hk * hd + i] = reference.sumBound(dim + 4, magnitude);
              }
            });
            expectClose(exact.after[g]![part], values, (i) => bounds[i]!, `${part} of group ${g}`);
          }
        }
        if (kind === 'f32') return;

        // The other kinds store the same f32 values, rounded: compare bits with what the f32 caches got.
        const other = stored(kind);
        for (let g = 0; g < groups; g++) {
          for (const part of ['k', 'v'] as const) {
            const expected = other.before[g]![part].slice();
            for (const slot of slots.filter((x) => x >= 0)) {
              for (let h = 0; h < hk; h++) {
                const at = (slot * hk + h) * hd;
                const head = exact.after[g]![part].subarray(at, at + hd);
                expected.set(reference.throughCache(head, other.pool.dtype, other.pool.staticScale(part, h)), at);
              }
            }
            expectClose(other.after[g]![part], expected, () => 0, `${part} of group ${g}, ${kind}`);
          }
        }
      }),
    );
  });
});

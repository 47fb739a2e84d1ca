import fc from 'fast-check';
import { it } from 'vitest';
import { ops } from '../../lib/kernels/index.ts';
import { cacheKinds, makeCache, readCache, writeSentinels } from './caches.ts';
import { throughCache } from './reference.ts';
import { check, describeLevels, expectClose, headDims, Random, rowCounts, seeds, withScope } from './support.ts';

describeLevels('kv_quantize', (device) => {
  it('stores what the reference says, bit for bit, at the slots and nowhere else', () =>
    check(fc.tuple(rowCounts, fc.constantFrom(1, 2, 3), headDims, cacheKinds, seeds), ([rows, heads, hd, kind, seed]) =>
      withScope(device, (s) => {
        const random = new Random(seed);
        const numBlocks = 4;
        const pool = makeCache(s, { kind, numBlocks, numKvHeads: heads, headDim: hd, random });
        const cache = pool.cache(0);
        writeSentinels(s, cache);
        const before = readCache(s, cache);
        // Distinct slots in any order, some rows with none.
        const slots = random
          .permutation(numBlocks * 16)
          .slice(0, rows)
          .map((slot) => (random.below(5) === 0 ? -1 : slot));
        const scale = 10 ** (random.below(5) - 2);
        const k = random.floats(rows * heads * hd, 'f32', scale);
        const v = random.floats(rows * heads * hd, 'f32', 3);
        if (rows > 2) k.fill(0, heads * hd, 2 * heads * hd);
        const shape = [rows, heads, hd];
        ops.sync.kv_quantize({ k: s.floats(k, shape), v: s.floats(v, shape), slots: s.ints(slots), cache });
        for (const part of ['k', 'v'] as const) {
          const values = part === 'k' ? k : v;
          slots.forEach((slot, row) => {
            for (let h = 0; h < heads && slot >= 0; h++) {
              const from = (row * heads + h) * hd;
              const stored = throughCache(values.subarray(from, from + hd), pool.dtype, pool.staticScale(part, h));
              before[part].set(stored, (slot * heads + h) * hd);
            }
          });
        }
        const after = readCache(s, cache);
        expectClose(after.k, before.k, () => 0, 'k');
        expectClose(after.v, before.v, () => 0, 'v');
      }),
    ));
});

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ops } from '../../lib/kernels/index.ts';
import { cacheKinds, makeCache, readCache, writeSentinels } from './caches.ts';
import { check, describeLevels, expectBits, headDims, Random, rowCounts, seeds, withScope } from './support.ts';

describeLevels('kv_dequantize', (device) => {
  it('reads the slots asked for, in any order and repeated', () =>
    check(fc.tuple(rowCounts, fc.constantFrom(1, 2, 3), headDims, cacheKinds, seeds), ([rows, heads, hd, kind, seed]) =>
      withScope(device, (s) => {
        const random = new Random(seed);
        const cache = makeCache(s, { kind, numBlocks: 3, numKvHeads: heads, headDim: hd, random }).cache(0);
        writeSentinels(s, cache);
        const all = readCache(s, cache);
        const slots = random.ints(rows, 48);
        const [k, v] = [s.out([rows, heads, hd]), s.out([rows, heads, hd])];
        ops.sync.kv_dequantize({ slots: s.ints(slots), cache, k, v });
        const pick = (values: Float32Array) =>
          Float32Array.from({ length: rows * heads * hd }, (_, i) => {
            return values[slots[Math.floor(i / (heads * hd))]! * heads * hd + (i % (heads * hd))]!;
          });
        expectBits(k.toFloat32Array(), pick(all.k));
        expectBits(v.toFloat32Array(), pick(all.v));
      }),
    ));

  it('refuses slots outside the pool and padding', () =>
    withScope(device, (s) => {
      const cache = makeCache(s, { kind: 'f32', numBlocks: 1, numKvHeads: 1, headDim: 2, random: new Random(1) }).cache(
        0,
      );
      for (const slot of [-1, 16, 2 ** 30]) {
        const call = () =>
          ops.sync.kv_dequantize({ slots: s.ints([slot]), cache, k: s.out([1, 1, 2]), v: s.out([1, 1, 2]) });
        expect(call, `slot ${slot}`).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }));
      }
    }));
});

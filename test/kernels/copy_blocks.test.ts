import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ops } from '../../lib/kernels/index.ts';
import { cacheKinds, makeCache, readCache, writeSentinels } from './caches.ts';
import { check, describeLevels, expectBits, headDims, Random, seeds, withScope } from './support.ts';

describeLevels('copy_blocks', (device) => {
  it('copies blocks whole in every cache given and leaves the others alone', () =>
    check(
      fc.tuple(fc.constantFrom(0, 1, 2, 3), fc.constantFrom(1, 2), headDims, cacheKinds, seeds),
      ([pairs, heads, hd, kind, seed]) =>
        withScope(device, (s) => {
          const random = new Random(seed);
          const numBlocks = 7;
          const pool = makeCache(s, { kind, numBlocks, numCaches: 3, numKvHeads: heads, headDim: hd, random });
          for (const cache of pool.caches) writeSentinels(s, cache);
          const before = pool.caches.map((cache) => readCache(s, cache));
          const blocks = random.permutation(numBlocks);
          const [from, to] = [blocks.slice(0, pairs), blocks.slice(pairs, 2 * pairs)];
          ops.sync.copy_blocks({ from: s.ints(from), to: s.ints(to), caches: pool.caches.slice(0, 2) });
          const size = 16 * heads * hd;
          pool.caches.forEach((cache, c) => {
            const after = readCache(s, cache);
            for (const part of ['k', 'v'] as const) {
              const expected = before[c]![part].slice();
              for (let i = 0; i < pairs && c < 2; i++) {
                expected.set(before[c]![part].subarray(from[i]! * size, (from[i]! + 1) * size), to[i]! * size);
              }
              expectBits(after[part], expected, `${part} of cache ${c}`);
            }
          });
        }),
    ));

  it('refuses blocks outside the pool', () =>
    withScope(device, (s) => {
      const pool = makeCache(s, { kind: 'f32', numBlocks: 2, numKvHeads: 1, headDim: 2, random: new Random(1) });
      for (const [from, to] of [
        [0, 2],
        [-1, 1],
        [2, 0],
      ] as const) {
        const call = () => ops.sync.copy_blocks({ from: s.ints([from]), to: s.ints([to]), caches: pool.caches });
        expect(call, `${from} to ${to}`).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }));
      }
    }));
});

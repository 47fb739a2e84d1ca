import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ops } from '../../lib/kernels/index.ts';
import {
  check,
  describeLevels,
  expectClose,
  Random,
  roundoff,
  rowCounts,
  seeds,
  widths,
  withScope,
} from './support.ts';

describeLevels('logprobs', (device) => {
  it('gives log-softmax, rank and the top k, ties by lower id', () => {
    const shapes = fc.tuple(rowCounts, widths, fc.constantFrom(0, 1, 2, 5, 1000), fc.boolean(), seeds);
    check(shapes, ([rows, vocab, wanted, coarse, seed]) =>
      withScope(device, (s) => {
        const random = new Random(seed);
        const k = Math.min(wanted, vocab);
        // Coarse values make ties.
        const logits = random.floats(rows * vocab, 'f32', 15).map((x) => (coarse ? Math.round(x / 5) * 5 : x));
        const ids = random.ints(rows, vocab);
        const [chosen, rank] = [s.out([rows]), s.out([rows], 'i32')];
        const [topIds, topLogprobs] = [s.out([rows, k], 'i32'), s.out([rows, k])];
        ops.sync.logprobs({
          logits: s.floats(logits, [rows, vocab]),
          ids: s.ints(ids),
          chosen,
          rank,
          ...(k > 0 ? { topIds, topLogprobs } : {}),
        });

        const expected = {
          chosen: [] as number[],
          rank: [] as number[],
          ids: [] as number[],
          logprobs: [] as number[],
        };
        for (let r = 0; r < rows; r++) {
          const row = logits.subarray(r * vocab, (r + 1) * vocab);
          const max = Math.max(...row);
          const logSum = max + Math.log(row.reduce((sum, x) => sum + Math.exp(x - max), 0));
          const order = [...row.keys()].sort((a, b) => row[b]! - row[a]! || a - b);
          expected.chosen.push(row[ids[r]!]! - logSum);
          expected.rank.push(1 + row.filter((x) => x > row[ids[r]!]!).length);
          expected.ids.push(...order.slice(0, k));
          expected.logprobs.push(...order.slice(0, k).map((id) => row[id]! - logSum));
        }
        // The sum over the vocabulary is off by up to (vocab + 4) units, relative, so its logarithm absolutely; numbers of
        // up to 15 + log(vocab) are rounded three times.
        const bound = (vocab + 4 + 3 * (30 + Math.log(vocab))) * roundoff('f32');
        expectClose(chosen.toFloat32Array(), expected.chosen, () => bound, 'chosen');
        expect([...rank.toInt32Array()]).toEqual(expected.rank);
        if (k === 0) return;
        expect([...topIds.toInt32Array()]).toEqual(expected.ids);
        expectClose(topLogprobs.toFloat32Array(), expected.logprobs, () => bound, 'topLogprobs');
      }),
    );
  });

  it('takes the rows that are asked for, in any order and more than once, with the bits that they have alone', () =>
    withScope(device, (s) => {
      const [source, vocab, k] = [5, 67, 3];
      const logits = s.floats(new Random(3).floats(source * vocab, 'f32', 9), [source, vocab]);
      const ids = s.ints([4, -1, 66, 0, 12]);
      const take = (rows?: number[]) => {
        const count = rows?.length ?? source;
        const out = {
          chosen: s.out([count]),
          rank: s.out([count], 'i32'),
          topIds: s.out([count, k], 'i32'),
          topLogprobs: s.out([count, k]),
        };
        ops.sync.logprobs({ logits, ids, ...(rows ? { rows: s.ints(rows) } : {}), ...out });
        return Array.from({ length: count }, (_, i) => [
          out.chosen.toFloat32Array()[i],
          out.rank.toInt32Array()[i],
          ...out.topIds.toInt32Array().subarray(i * k, (i + 1) * k),
          ...out.topLogprobs.toFloat32Array().subarray(i * k, (i + 1) * k),
        ]);
      };
      const all = take();
      expect(take([4, 1, 1, 0])).toEqual([4, 1, 1, 0].map((row) => all[row]));
      expect(take([])).toEqual([]);
      expect(() => take([5])).toThrow(/rows\[0\] is 5, expected 0 to 4/);
      expect(() => take([-1])).toThrow(/rows\[0\] is -1/);
    }));

  it('stays finite for logits far apart', () =>
    withScope(device, (s) => {
      const [chosen, rank] = [s.out([2]), s.out([2], 'i32')];
      const logits = s.floats([3e4, -3e4, Number.NEGATIVE_INFINITY, 3e4, -3e4, Number.NEGATIVE_INFINITY], [2, 3]);
      ops.sync.logprobs({ logits, ids: s.ints([0, 1]), chosen, rank });
      expect([...chosen.toFloat32Array()]).toEqual([0, -6e4]);
      expect([...rank.toInt32Array()]).toEqual([1, 2]);
    }));
});

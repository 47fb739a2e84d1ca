import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type Device, describeRows, ops, type SequenceRows, type Tensor } from '../../lib/kernels/index.ts';
import { type CacheKind, cacheKinds, makeCache, readCache } from './caches.ts';
import {
  check,
  computeDtypes,
  describeLevels,
  expectBits,
  expectClose,
  headDims,
  Random,
  roundoff,
  type Scope,
  seeds,
  withScope,
} from './support.ts';

/** Sequences of a step: keys that exist before it, and query rows. Around blocks of 16 and splits of 256 keys. */
const sequence = fc.record({
  past: fc.constantFrom(0, 1, 14, 15, 16, 17, 63, 255, 256, 257, 300, 520),
  length: fc.constantFrom(0, 1, 1, 2, 15, 16, 17, 33),
});
/** What the reference takes for one example, in multiplications: larger ones only take time. */
const maxCost = 2e6;
const numRuns = 40;
const shapes = fc
  .record({
    sequences: fc.array(sequence, { minLength: 0, maxLength: 3 }),
    hk: fc.constantFrom(1, 2, 3),
    group: fc.constantFrom(1, 2, 3, 4),
    hd: headDims,
    qDtype: computeDtypes,
    oDtype: computeDtypes,
    kind: cacheKinds,
    seed: seeds,
  })
  .filter(({ sequences, hk, group, hd }) => {
    return sequences.reduce((sum, x) => sum + x.length * (x.past + x.length), 0) * hk * group * hd <= maxCost;
  });
interface Shape {
  sequences: { past: number; length: number }[];
  hk: number;
  group: number;
  hd: number;
  qDtype: 'f32' | 'bf16';
  kind: CacheKind;
  seed: number;
}

interface Case {
  operands: Parameters<typeof ops.sync.attention>[0];
  rows: number;
  q: Float32Array;
  /** What the cache holds, [slots, Hk, hd]. */
  k: Float32Array;
  v: Float32Array;
  sequences: SequenceRows[];
}

/** Enough for three of the longest. */
const numBlocks = 105;

/** Sequences with blocks in random places; slots beyond their keys hold NaN, which must never be read. */
function makeCase(s: Scope, shape: Shape, o: (rows: number, width: number) => Tensor): Case {
  const random = new Random(shape.seed);
  const { hk, hd, kind } = shape;
  const hq = hk * shape.group;
  const pool = makeCache(s, { kind, numBlocks, numKvHeads: hk, headDim: hd, random });
  const cache = pool.cache(0);
  // Blocks are handed out in order; take and return some, so that tables are not contiguous.
  const taken = random.permutation(numBlocks).map(() => pool.table(16));
  for (const i of random.permutation(numBlocks)) taken[i]!.release();
  const sequences = shape.sequences.map(({ past, length }) => {
    return { table: pool.table(past + length), start: past, length };
  });

  const width = hk * hd;
  const keys = sequences.flatMap((x) => Array.from({ length: x.start + x.length }, (_, p) => x.table.slot(p)));
  const nan = new Float32Array(numBlocks * 16 * width).fill(Number.NaN);
  const everywhere = s.ints(Int32Array.from({ length: numBlocks * 16 }, (_, i) => i));
  const [nanK, nanV] = [s.floats(nan, [numBlocks * 16, hk, hd]), s.floats(nan, [numBlocks * 16, hk, hd])];
  ops.sync.kv_quantize({ k: nanK, v: nanV, slots: everywhere, cache });
  const k = s.floats(random.floats(keys.length * width, 'f32', 2), [keys.length, hk, hd]);
  const v = s.floats(random.floats(keys.length * width, 'f32', 2), [keys.length, hk, hd]);
  ops.sync.kv_quantize({ k, v, slots: s.ints(keys), cache });

  const rows = sequences.reduce((sum, x) => sum + x.length, 0);
  const q = random.floats(rows * hq * hd, shape.qDtype, 2);
  const { positions, queryStart, contextLen, tableRow, blockTables, ...rest } = describeRows(s.device, sequences);
  s.own({ dispose: () => rest[Symbol.dispose]() });
  return {
    operands: {
      q: s.floats(q, [rows, hq, hd], shape.qDtype),
      cache,
      positions,
      queryStart,
      contextLen,
      tableRow,
      blockTables,
      o: o(rows, hq * hd),
    },
    rows,
    q,
    ...readCache(s, cache),
    sequences,
  };
}

/** softmax(q K^T / sqrt(hd)) V in double precision, and each output's bound. */
function reference(c: Case, { hk, group, hd }: Shape, rounding: { q: number; weights: number }) {
  const hq = hk * group;
  const values = new Float64Array(c.rows * hq * hd);
  const bounds = new Float64Array(values.length);
  const u = roundoff('f32');
  let row = 0;
  for (const { table, start, length } of c.sequences) {
    for (let position = start; position < start + length; position++, row++) {
      const slots = Array.from({ length: position + 1 }, (_, p) => table.slot(p));
      for (let h = 0; h < hq; h++) {
        const head = Math.floor(h / group);
        const at = (row * hq + h) * hd;
        let scoreError = 0;
        const scores = slots.map((slot) => {
          let [dot, magnitude] = [0, 0];
          for (let i = 0; i < hd; i++) {
            const product = c.q[at + i]! * c.k[(slot * hk + head) * hd + i]!;
            dot += product;
            magnitude += Math.abs(product);
          }
          // The sum's own rounding, and a few units for scale factors and the subtraction of the maximum.
          const error = (((hd + 8) * u + rounding.q) * magnitude) / Math.sqrt(hd);
          scoreError = Math.max(scoreError, error);
          return dot / Math.sqrt(hd);
        });
        const max = Math.max(...scores);
        const weights = scores.map((x) => Math.exp(x - max));
        const total = weights.reduce((a, b) => a + b, 0);
        // A weight is off by the score's error in numerator and denominator, by the exponential's own error and that of
        // rescaling at merges (16 units each), by the two sums over keys, and by its rounding before the product with V.
        const relative = Math.expm1(2 * scoreError) + (32 + 2 * slots.length) * u + rounding.weights;
        for (let i = 0; i < hd; i++) {
          let [sum, magnitude] = [0, 0];
          slots.forEach((slot, key) => {
            const term = (weights[key]! / total) * c.v[(slot * hk + head) * hd + i]!;
            sum += term;
            magnitude += Math.abs(term);
          });
          values[at + i] = sum;
          bounds[at + i] = relative * magnitude * 1.01;
        }
      }
    }
  }
  return { values, bounds };
}

/**
 * Levels with products of bf16 pairs round the weights of V for bf16 queries over a narrow cache; avx512 rounds f32
 * queries and their weights too over an fp8 cache. GPUs round for bf16 queries and take f32 ones in two parts, 16 bits
 * and a sign between them (csrc/backends/cuda/attention_plan.h); other widths than these have a kernel in f32.
 */
function rounding(level: string, { qDtype, kind, hd }: Shape): { q: number; weights: number } {
  const none = { q: 0, weights: 0 };
  if (kind === 'f32') return none;
  if (level.startsWith('sm_')) {
    if (![32, 64, 96, 128, 256].includes(hd)) return none;
    return qDtype === 'bf16' ? { q: 0, weights: roundoff('bf16') } : { q: 2 ** -17, weights: 2 ** -17 };
  }
  if (!['avx512', 'neon_bf16'].includes(level)) return none;
  if (qDtype === 'bf16') return { q: 0, weights: roundoff('bf16') };
  const part = level === 'avx512' && kind !== 'bf16' ? roundoff('bf16') : 0;
  return { q: part, weights: part };
}

describeLevels('attention', (device, oneThread) => {
  const names = ['attention', 'attention_decode', 'attention_prefill'] as const;

  it('equals the reference over scattered blocks, all three ops alike in bits', () =>
    check(
      shapes,
      (shape) =>
        withScope(device, (s) => {
          const c = makeCase(s, shape, (rows, width) => s.out([rows, width], shape.oDtype));
          ops.sync.attention(c.operands);
          const { values, bounds } = reference(c, shape, rounding(device.level, shape));
          const unit = roundoff(shape.oDtype);
          const bound = (i: number) => bounds[i]! + unit * (Math.abs(values[i]!) + bounds[i]!);
          expectClose(c.operands.o.toFloat32Array(), values, bound);
          const bytes = c.operands.o.toBytes();
          for (const op of names.slice(1)) {
            const o = s.out([...c.operands.o.shape], shape.oDtype);
            ops.sync[op as (typeof names)[number]]({ ...c.operands, o });
            expectBits(o.toBytes(), bytes, op);
          }
        }),
      numRuns,
    ));

  it('gives a row the same bits when its chunk is cut in two or its neighbours change', () =>
    check(
      shapes,
      (shape) =>
        withScope(device, (s) => {
          const whole = makeCase(s, shape, (rows, width) => s.out([rows, width], shape.oDtype));
          ops.sync.attention(whole.operands);
          const all = whole.operands.o.toBytes();
          const rowBytes = whole.rows === 0 ? 0 : all.length / whole.rows;
          let first = 0;
          for (const { table, start, length } of whole.sequences) {
            const cut = Math.floor(length / 2);
            for (const [from, count] of [
              [0, cut],
              [cut, length - cut],
            ] as const) {
              const half = describeRows(device, [{ table, start: start + from, length: count }]);
              const hqHd = shape.hk * shape.group * shape.hd;
              const at = (first + from) * hqHd;
              const q = s.floats(
                whole.q.subarray(at, at + count * hqHd),
                [count, hqHd / shape.hd, shape.hd],
                shape.qDtype,
              );
              const o = s.out([count, hqHd], shape.oDtype);
              const { [Symbol.dispose]: dispose, slots: _, ...description } = half;
              ops.sync.attention({ ...description, q, cache: whole.operands.cache, o });
              const expected = all.subarray((first + from) * rowBytes, (first + from + count) * rowBytes);
              expectBits(o.toBytes(), expected);
              dispose();
            }
            first += length;
          }
        }),
      numRuns,
    ));

  it('gives the same bits on one thread and on two', () =>
    check(
      shapes,
      (shape) => {
        const bytes = (on: Device) =>
          withScope(on, (s) => {
            const { operands } = makeCase(s, shape, (rows, width) => s.out([rows, width], shape.oDtype));
            ops.sync.attention(operands);
            return operands.o.toBytes();
          });
        expectBits(bytes(oneThread), bytes(device));
      },
      numRuns,
    ));

  it('refuses block tables and positions that lead out of the cache', () =>
    withScope(device, (s) => {
      const base = {
        sequences: [{ past: 17, length: 1 }],
        hk: 1,
        group: 1,
        hd: 8,
        qDtype: 'f32' as const,
        kind: 'f32' as const,
        seed: 1,
      };
      const { operands } = makeCase(s, base, (rows, width) => s.out([rows, width]));
      const wrong: Record<string, Partial<typeof operands>> = {
        'a block beyond the pool': { blockTables: s.ints([0, numBlocks], [1, 2]) },
        'a negative block': { blockTables: s.ints([-1, 0], [1, 2]) },
        'a position beyond the context': { positions: s.ints([18]) },
        'a negative position': { positions: s.ints([-1]) },
        'a context beyond the table': { contextLen: s.ints([33]) },
        'a table row that does not exist': { tableRow: s.ints([1]) },
        'query starts that do not end at the rows': { queryStart: s.ints([0, 2]) },
        'query starts that do not begin at 0': { queryStart: s.ints([1, 1]) },
      };
      for (const [what, operand] of Object.entries(wrong)) {
        for (const op of names) {
          const call = () => ops.sync[op]({ ...operands, ...operand });
          expect(call, `${op}: ${what}`).toThrow(expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT' }));
        }
      }
    }));
});

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type Device, describeRows, ops } from '../../lib/kernels/index.ts';
import { makeCache } from './caches.ts';
import {
  type CausalHead,
  causalAttention,
  causalAttentionBackward,
  causalProbabilities,
  centralDifference,
} from './reference-train.ts';
import {
  check,
  computeDtypes,
  describeLevels,
  expectBits,
  expectClose,
  headDims,
  Random,
  roundoff,
  roundTo,
  type Scope,
  seeds,
  withScope,
} from './support.ts';

/** Rows of a sequence: around blocks of 16 tokens, tiles of 32 rows or keys, and 256. */
const lengths = fc.constantFrom<number>(0, 1, 2, 15, 16, 17, 31, 32, 33, 65, 255, 256, 257);
const shapes = fc
  .record({
    sequences: fc.array(lengths, { minLength: 0, maxLength: 4 }),
    hk: fc.constantFrom(1, 2, 3),
    ratio: fc.constantFrom(1, 2, 3, 4),
    hd: headDims,
    qDtype: computeDtypes,
    oDtype: computeDtypes,
    kind: computeDtypes,
    groups: fc.constantFrom(1, 2, 3),
    accumulate: fc.boolean(),
    seed: seeds,
  })
  // What the reference takes for one example, in products of heads: larger ones only take time.
  .filter((x) => x.sequences.reduce((sum, n) => sum + n * n, 0) * x.hk * x.ratio * x.hd <= 2e6);
type Shape = typeof shapes extends fc.Arbitrary<infer T> ? Omit<T, 'hd'> & { hd: number } : never;
const numRuns = 40;

interface Case {
  operands: Parameters<typeof ops.sync.attention_backward>[0];
  attrs: { group: number; accumulate: boolean };
  rows: number;
  q: Float32Array;
  /** Rounded to o's dtype, as attention stores it. */
  o: Float32Array;
  dout: Float32Array;
  /** What dkv holds before the call. */
  before: Float32Array;
  /** One for each sequence and query head, sequences first. */
  heads: CausalHead[];
}

/** `count` rows of one head out of x [rows, heads, hd]. */
function headRows(x: Float32Array, first: number, count: number, heads: number, h: number, hd: number) {
  const out = new Float32Array(count * hd);
  for (let i = 0; i < count; i++) out.set(x.subarray(((first + i) * heads + h) * hd).subarray(0, hd), i * hd);
  return out;
}

/** Sequences with blocks in random places; slots beyond their keys hold NaN, which must never be read. */
function makeCase(s: Scope, shape: Shape): Case {
  const random = new Random(shape.seed);
  const { hk, ratio, hd, kind, groups } = shape;
  const hq = hk * ratio;
  const numBlocks = shape.sequences.reduce((sum, n) => sum + Math.ceil(n / 16), 1);
  const pool = makeCache(s, { kind, numBlocks, numKvHeads: hk, headDim: hd, random });
  const cache = pool.cache(0);
  // Blocks are handed out in order; take and return some, so that tables are not contiguous.
  const taken = random.permutation(numBlocks).map(() => pool.table(16));
  for (const i of random.permutation(numBlocks)) taken[i]!.release();
  const sequences = shape.sequences.map((length) => ({ table: pool.table(length), start: 0, length }));
  const description = describeRows(s.device, sequences);
  const { slots, [Symbol.dispose]: _, ...indices } = description;
  s.own({ dispose: () => description[Symbol.dispose]() });

  const rows = shape.sequences.reduce((a, b) => a + b, 0);
  const nan = new Float32Array(numBlocks * 16 * hk * hd).fill(Number.NaN);
  const everywhere = s.ints(Int32Array.from({ length: numBlocks * 16 }, (_, i) => i));
  const [nanK, nanV] = [s.floats(nan, [numBlocks * 16, hk, hd]), s.floats(nan, [numBlocks * 16, hk, hd])];
  ops.sync.kv_quantize({ k: nanK, v: nanV, slots: everywhere, cache });
  const [k, v] = [random.floats(rows * hk * hd, kind, 2), random.floats(rows * hk * hd, kind, 2)];
  const own = { k: s.floats(k, [rows, hk, hd]), v: s.floats(v, [rows, hk, hd]) };
  ops.sync.kv_quantize({ ...own, slots, cache });

  const q = random.floats(rows * hq * hd, shape.qDtype, 2);
  const dout = random.floats(rows * hq * hd);
  const width = groups * 2 * hk * hd;
  const before = random.floats(rows * width);
  const o = new Float32Array(rows * hq * hd);
  const heads: CausalHead[] = [];
  let first = 0;
  for (const length of shape.sequences) {
    for (let h = 0; h < hq; h++) {
      const kv = Math.floor(h / ratio);
      const head = {
        length,
        hd,
        scale: 1 / Math.sqrt(hd),
        q: headRows(q, first, length, hq, h, hd),
        k: headRows(k, first, length, hk, kv, hd),
        v: headRows(v, first, length, hk, kv, hd),
      };
      heads.push(head);
      causalAttention(head).forEach((x, i) => {
        o[((first + Math.floor(i / hd)) * hq + h) * hd + (i % hd)] = roundTo(shape.oDtype, x);
      });
    }
    first += length;
  }
  return {
    operands: {
      q: s.floats(q, [rows, hq, hd], shape.qDtype),
      cache,
      ...indices,
      o: s.floats(o, [rows, hq * hd], shape.oDtype),
      dout: s.floats(dout, [rows, hq * hd]),
      dq: s.out([rows, hq, hd]),
      dkv: s.floats(before, [rows, width]),
    },
    attrs: { group: shape.seed % groups, accumulate: shape.accumulate },
    rows,
    q,
    o,
    dout,
    before,
    heads,
  };
}

/**
 * The largest relative error of a head's probabilities: that of the scores, of the sum over keys, of the exponential and
 * the quotient.
 */
function probabilityError({ length, hd, scale, q, k }: CausalHead): number {
  const u = roundoff('f32');
  let most = 0;
  for (let i = 0; i < length; i++) {
    for (let j = 0; j <= i; j++) {
      let magnitude = 0;
      for (let d = 0; d < hd; d++) magnitude += Math.abs(q[i * hd + d]! * k[j * hd + d]!);
      most = Math.max(most, magnitude);
    }
  }
  return Math.expm1(2 * (hd + 8) * u * most * scale) + (16 + length) * u;
}

/**
 * avx512 multiplies pairs of bf16 where q and the cache are bf16: probabilities or their gradients are then rounded once
 * each, and dout.
 */
function rounding(level: string, { qDtype, kind }: Shape): number {
  return level === 'avx512' && qDtype === 'bf16' && kind === 'bf16' ? 3 * roundoff('bf16') : 0;
}

function expectGradients(c: Case, shape: Shape, level: string): void {
  const { hk, ratio, hd, groups, sequences } = shape;
  const u = roundoff('f32');
  const hq = hk * ratio;
  const width = groups * 2 * hk * hd;
  const dq = new Float64Array(c.rows * hq * hd);
  const dqBound = new Float64Array(dq.length);
  const dkv = Float64Array.from(c.before);
  const dkvBound = new Float64Array(dkv.length);
  let first = 0;
  sequences.forEach((length, b) => {
    for (let i = 0; i < length; i++) {
      const at = (first + i) * width + c.attrs.group * 2 * hk * hd;
      if (!c.attrs.accumulate) dkv.fill(0, at, at + 2 * hk * hd);
    }
    for (let h = 0; h < hq; h++) {
      const head = c.heads[b * hq + h]!;
      const [o, dout] = [c.o, c.dout].map((x) => headRows(x, first, length, hq, h, hd));
      const g = causalAttentionBackward(head, o!, dout!);
      // A term is off as its probability is and, within a difference of two dot products over the head, by those; then
      // it is one of the sum over rows or keys (and heads, and what was there), in any order.
      const relative = (probabilityError(head) + (2 * hd + 8 + ratio * length) * u + rounding(level, shape)) * 1.01;
      for (let i = 0; i < length; i++) {
        for (let d = 0; d < hd; d++) {
          const [from, to] = [i * hd + d, ((first + i) * hq + h) * hd + d];
          dq[to] = g.dq[from]!;
          dqBound[to] = relative * g.dqMagnitude[from]!;
          const dk = (first + i) * width + (c.attrs.group * 2 * hk + Math.floor(h / ratio)) * hd + d;
          const dv = dk + hk * hd;
          dkv[dk]! += g.dk[from]!;
          dkv[dv]! += g.dv[from]!;
          dkvBound[dk]! += relative * g.dkMagnitude[from]!;
          dkvBound[dv]! += relative * g.dvMagnitude[from]!;
          if (!c.attrs.accumulate) continue;
          dkvBound[dk]! += length * u * Math.abs(c.before[dk]!);
          dkvBound[dv]! += length * u * Math.abs(c.before[dv]!);
        }
      }
    }
    first += length;
  });
  expectClose(c.operands.dq.toFloat32Array(), dq, (i) => dqBound[i]!, 'dq');
  // Columns of other groups have bounds of 0: they stay as they were.
  expectClose(c.operands.dkv.toFloat32Array(), dkv, (i) => dkvBound[i]!, 'dkv');
}

const large: Shape = {
  sequences: [513, 40, 160],
  hk: 1,
  ratio: 2,
  hd: 32,
  qDtype: 'bf16',
  oDtype: 'bf16',
  kind: 'bf16',
  groups: 1,
  accumulate: false,
  seed: 3,
};
const examples: [string, Shape][] = [
  ['a long sequence of the embedded shape', large],
  ['heads of 64, four to a KV head, in f32', { ...large, sequences: [257, 16], ratio: 4, hd: 64, qDtype: 'f32' }],
  ['heads of 128', { ...large, sequences: [129, 96], ratio: 1, hd: 128, kind: 'f32', accumulate: true, groups: 2 }],
  ['odd lengths in f32', { ...large, sequences: [99, 1], qDtype: 'f32', oDtype: 'f32', kind: 'f32' }],
  ['heads of 512', { ...large, sequences: [50], ratio: 1, hk: 2, hd: 512 }],
];

it('causalAttentionBackward is the gradient of causalAttention', () =>
  check(
    fc.record({ length: fc.constantFrom(1, 2, 5, 9), hd: fc.constantFrom(2, 3, 8), seed: seeds }),
    ({ length, hd, seed }) => {
      const random = new Random(seed);
      const [q, k, v] = [1, 2, 3].map(() => Float64Array.from(random.floats(length * hd)));
      const dout = random.floats(length * hd);
      const head = { length, hd, scale: 0.7, q: q!, k: k!, v: v! };
      const loss = () => causalAttention(head).reduce((sum, x, i) => sum + x * dout[i]!, 0);
      const g = causalAttentionBackward(head, causalAttention(head), dout);
      for (let at = 0; at < length * hd; at++) {
        // Fourth derivatives are of the order of the loss, at most hd * length: step^4 of it, and cancellation.
        for (const [x, d] of [
          [q, g.dq],
          [k, g.dk],
          [v, g.dv],
        ] as const) {
          expect(Math.abs(centralDifference(loss, x!, at) - d[at]!)).toBeLessThan(1e-9);
        }
      }
      const rows = causalProbabilities(head);
      for (let i = 0; i < length; i++) {
        const sum = rows.subarray(i * length, (i + 1) * length).reduce((a, b) => a + b, 0);
        expect(Math.abs(sum - 1)).toBeLessThan(1e-12);
      }
    },
  ));

describeLevels('attention_backward', (device, oneThread) => {
  it('equals the reference over scattered blocks and leaves other groups alone', () =>
    check(
      shapes,
      (shape) =>
        withScope(device, (s) => {
          const c = makeCase(s, shape);
          ops.sync.attention_backward(c.operands, c.attrs);
          expectGradients(c, shape, device.level);
        }),
      numRuns,
    ));

  it.each(examples)('equals the reference: %s', (_, shape) =>
    withScope(device, (s) => {
      const c = makeCase(s, shape);
      ops.sync.attention_backward(c.operands, c.attrs);
      expectGradients(c, shape, device.level);
    }),
  );

  it('gives the same bits on one thread and on two', () =>
    check(
      fc.oneof({ weight: 9, arbitrary: shapes }, { weight: 1, arbitrary: fc.constant(large) }),
      (shape) => {
        const bytes = (on: Device) =>
          withScope(on, (s) => {
            const { operands, attrs } = makeCase(s, shape);
            ops.sync.attention_backward(operands, attrs);
            return [operands.dq.toBytes(), operands.dkv.toBytes()] as const;
          });
        const [one, two] = [bytes(oneThread), bytes(device)];
        expectBits(one[0], two[0], 'dq');
        expectBits(one[1], two[1], 'dkv');
      },
      numRuns,
    ));

  it('follows attention: o may be what it wrote', () =>
    withScope(device, (s) => {
      const c = makeCase(s, { ...large, sequences: [70, 33] });
      const { dout, dq, dkv, ...forward } = c.operands;
      ops.sync.attention(forward);
      const written = c.operands.o.toFloat32Array();
      ops.sync.attention_backward(c.operands, c.attrs);
      c.o.set(written);
      expectGradients(c, { ...large, sequences: [70, 33] }, device.level);
    }));

  it('refuses sequences whose keys are not the rows of the call', () =>
    withScope(device, (s) => {
      const { operands, attrs } = makeCase(s, { ...large, sequences: [17, 2] });
      const positions = Int32Array.from({ length: 19 }, (_, i) => (i < 17 ? i : i - 17));
      const wrong: [string, Partial<typeof operands>, string][] = [
        [
          'a shorter context than rows',
          { contextLen: s.ints([17, 3]) },
          'context length of sequence 1 is 3, expected 2',
        ],
        [
          'positions that do not begin at 0',
          { positions: s.ints(positions.map((p, i) => (i === 17 ? 1 : p))) },
          'position of row 17 is 1, expected 0',
        ],
        [
          'positions that skip one',
          { positions: s.ints(positions.map((p, i) => (i === 5 ? 4 : p))) },
          'position of row 5 is 4, expected 5',
        ],
      ];
      for (const [what, operand, message] of wrong) {
        const call = () => ops.sync.attention_backward({ ...operands, ...operand }, attrs);
        expect(call, what).toThrow(
          expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT', message: expect.stringContaining(message) }),
        );
      }
      for (const group of [-1, 1, 0.5]) {
        expect(() => ops.sync.attention_backward(operands, { ...attrs, group })).toThrow(
          expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT', message: expect.stringContaining('group') }),
        );
      }
    }));
});

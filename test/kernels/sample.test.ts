// Which token `sample` picks: filters, adjustments, masks, forced ids, and what a slot remembers from call to call.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ops, SamplerTable } from '../../lib/kernels/index.ts';
import { acceptable, plain, type Row, type Sampler } from './sampling-reference.ts';
import { check, describeLevels, Random, rowCounts, type Scope, seeds, widths, withScope } from './support.ts';

const filters = fc.record({
  temperature: fc.constantFrom(0, 0.3, 1, 2.5),
  topK: fc.constantFrom(0, 1, 3, 40),
  topP: fc.constantFrom(1, 0.9, 0.3),
  minP: fc.constantFrom(0, 0.05, 0.5),
  seed: fc.bigInt({ min: 0n, max: (1n << 64n) - 1n }),
  choice: fc.nat(5),
});

const penalties = fc.record({
  repetitionPenalty: fc.constantFrom(1, 0.7, 1.3, 2),
  presencePenalty: fc.constantFrom(0, 0.5, -0.25),
  frequencyPenalty: fc.constantFrom(0, 0.3, -0.1),
  minTokens: fc.constantFrom(0, 1, 500),
});

/** Lists of tokens, some with many and some with none. */
function lists(random: Random, vocab: number): Partial<Sampler> {
  const ids = (count: number) => [...random.ints(random.below(count + 1), vocab)];
  const biases = ids(6).map(
    (id) => [id, random.below(4) === 0 ? Number.NEGATIVE_INFINITY : random.next() * 8 - 4] as const,
  );
  return { logitBias: new Map(biases), endIds: ids(3), promptIds: ids(40), outputIds: ids(40) };
}

interface Extras {
  bitmask?: Int32Array;
  masks?: number;
  maskRows?: number[];
  forcedIds?: number[];
}

/** One call over a table that is set up already. */
function call(
  s: Scope,
  samplers: SamplerTable,
  rows: { logits: Float32Array; position: number }[],
  slots: number[],
  extras: Extras = {},
): number[] {
  const vocab = samplers.vocabSize;
  const logits = new Float32Array(rows.length * vocab);
  rows.forEach((row, i) => {
    logits.set(row.logits, i * vocab);
  });
  const ids = s.out([rows.length], 'i32');
  const { bitmask, masks = rows.length, maskRows, forcedIds } = extras;
  ops.sync.sample({
    logits: s.floats(logits, [rows.length, vocab]),
    samplers,
    slots: s.ints(slots),
    outputPositions: s.ints(rows.map((row) => row.position)),
    ...(forcedIds ? { forcedIds: s.ints(forcedIds) } : {}),
    ...(bitmask ? { bitmask: s.ints(bitmask, [masks, Math.ceil(vocab / 32)]) } : {}),
    ...(maskRows ? { maskRows: s.ints(maskRows) } : {}),
    ids,
  });
  return [...ids.toInt32Array()];
}

/** Rows with a slot each, in reverse order, so that a row that reads its own index instead of its slot shows. */
function run(s: Scope, rows: Row[], extras: Extras = {}, vocab = rows[0]!.logits.length): number[] {
  const samplers = s.own(new SamplerTable(s.device, Math.max(1, rows.length), vocab));
  const slots = rows.map((_, i) => rows.length - 1 - i);
  rows.forEach((row, i) => {
    samplers.set(slots[i]!, row.sampler);
  });
  return call(s, samplers, rows, slots, extras);
}

const bit = (mask: Int32Array, words: number, row: number, id: number) =>
  ((mask[row * words + (id >> 5)]! >>> (id & 31)) & 1) === 1;

describeLevels('sample', (device) => {
  it('picks what the reference picks, with any combination of filters, adjustments and masks', () => {
    const shapes = fc.tuple(rowCounts, widths, filters, penalties, fc.constantFrom('none', 'own', 'shared'), seeds);
    check(
      shapes,
      ([count, vocab, filter, penalty, masked, seed]) =>
        withScope(device, (s) => {
          const random = new Random(seed);
          const words = Math.ceil(vocab / 32);
          const masks = masked === 'own' ? count : 3;
          const bitmask = Int32Array.from({ length: masks * words }, () => (random.next() * 2 ** 32) | 0);
          const maskRows = Array.from({ length: count }, (_, i) => (masked === 'own' ? i : random.below(4) - 1));
          const rows: Row[] = maskRows.map((mask) => ({
            logits: random.floats(vocab, 'f32', 6),
            allowed: (id) => masked === 'none' || mask < 0 || bit(bitmask, words, mask, id),
            sampler: { ...plain, ...filter, ...penalty, ...lists(random, vocab) },
            position: random.below(1000),
          }));
          const extras = { none: {}, own: { bitmask }, shared: { bitmask, masks, maskRows } }[masked]!;
          run(s, rows, extras, vocab).forEach((id, i) => {
            expect(acceptable(rows[i]!), `row ${i}`).toContain(id);
          });
        }),
      150,
    );
  });

  it('answers -1 for rows without numbers and -2 where nothing is allowed, and only for them', () =>
    withScope(device, (s) => {
      const inf = Number.POSITIVE_INFINITY;
      const cases: [number[], Partial<Sampler>, number | null][] = [
        [[1, 2, 0], {}, null],
        [[1, Number.NaN, 0], {}, -1],
        [[inf, 1, 0], {}, -1],
        [[-inf, -inf, -inf], {}, -1],
        [[-inf, 3, -inf], {}, 1],
        // What is forbidden does not hide what is wrong, and what is wrong is not the request's fault.
        [[1, Number.NaN, 0], { logitBias: new Map([[1, -inf]]) }, -1],
        [[1, inf, 0], { logitBias: new Map([[1, -inf]]) }, -1],
        [[1, inf, 0], { logitBias: new Map([[1, -5]]), repetitionPenalty: 2, promptIds: [1] }, -1],
        [[-inf, -inf, -inf], { logitBias: new Map([[0, 5]]) }, -1],
        [[1, 2, 3], { logitBias: new Map([0, 1, 2].map((id) => [id, -inf])) }, -2],
        [[1, 2, 3], { logitBias: new Map([[0, -inf]]), endIds: [1, 2], minTokens: 1 }, -2],
        [[-inf, 2, -inf], { endIds: [1], minTokens: 1 }, -2],
        // Numbers so large that they would not be finite stay finite.
        [[1, 3e38, 0], { logitBias: new Map([[1, 3e38]]) }, 1],
        [[-1, -3e38, -3e38], { repetitionPenalty: 1000, outputIds: [0, 1, 2], frequencyPenalty: 3e38 }, null],
      ];
      for (const temperature of [0, 1]) {
        const rows = cases.map(([values, sampler]) => ({
          logits: Float32Array.from(values),
          sampler: { ...plain, temperature, ...sampler },
          position: 0,
        }));
        run(s, rows).forEach((id, i) => {
          const expected = cases[i]![2];
          if (expected === null) expect(id, `case ${i}`).toBeGreaterThanOrEqual(0);
          else expect(id, `case ${i}`).toBe(expected);
        });
        expect(run(s, rows.slice(0, 1), { bitmask: Int32Array.of(0) })).toEqual([-2]);
        expect(run(s, rows.slice(1, 2), { bitmask: Int32Array.of(0) })).toEqual([-1]);
      }
    }));

  it('takes the lowest id among equals when greedy', () =>
    withScope(device, (s) => {
      for (const vocab of [5, 64, 1000]) {
        const logits = new Float32Array(vocab).fill(-1);
        for (const id of [vocab - 1, vocab - 2, Math.floor(vocab / 2)]) logits[id] = 7;
        const row = { logits, sampler: { ...plain, temperature: 0 }, position: 0 };
        expect(run(s, [row])).toEqual([Math.floor(vocab / 2)]);
      }
    }));

  describe('the order of the adjustments', () => {
    const greedy = { ...plain, temperature: 0 };
    // Token 1 stands where the order decides: with any other order it ends on the other side of token 0's 0.
    it.each<[string, number, Partial<Sampler>, number]>([
      [
        'bias before the repetition penalty',
        -1,
        { logitBias: new Map([[1, 2]]), repetitionPenalty: 4, promptIds: [1] },
        1,
      ],
      ['repetition before presence', 2, { repetitionPenalty: 2, presencePenalty: 1.5, outputIds: [1] }, 0],
      ['repetition before frequency', 2, { repetitionPenalty: 2, frequencyPenalty: 1.5, outputIds: [1] }, 0],
      [
        'bias cannot lift a token that is forbidden to end',
        1,
        { logitBias: new Map([[1, 100]]), endIds: [1], minTokens: 1 },
        0,
      ],
    ])('%s', (_, logit, sampler, expected) =>
      withScope(device, (s) => {
        const row = { logits: Float32Array.of(0, logit), sampler: { ...greedy, ...sampler }, position: 0 };
        expect(run(s, [row])).toEqual([expected]);
      }),
    );

    it('bias cannot lift a token that the mask forbids', () =>
      withScope(device, (s) => {
        const sampler = { ...greedy, logitBias: new Map([[1, 100]]) };
        const row = { logits: Float32Array.of(0, 1), sampler, position: 0 };
        expect(run(s, [row], { bitmask: Int32Array.of(0b01) })).toEqual([0]);
      }));
  });

  it('penalises a prompt by repetition only, outputs by all three, and a token of both once', () =>
    withScope(device, (s) => {
      const check = (sampler: Partial<Sampler>, logit: number) => {
        // Token 1 is better by a hair, or worse by a hair, than the logit that it must come to.
        for (const [hair, expected] of [
          [1e-3, 0],
          [-1e-3, 1],
        ] as const) {
          const row = {
            logits: Float32Array.of(logit + hair, 4),
            sampler: {
              ...plain,
              temperature: 0,
              repetitionPenalty: 2,
              presencePenalty: 0.5,
              frequencyPenalty: 0.25,
              ...sampler,
            },
            position: 0,
          };
          expect(run(s, [row])).toEqual([expected]);
        }
      };
      check({}, 4);
      check({ promptIds: [1, 1, 1] }, 2);
      check({ outputIds: [1] }, 2 - 0.75);
      check({ outputIds: [1, 1, 1] }, 2 - 0.5 - 0.75);
      check({ promptIds: [1], outputIds: [1, 1] }, 2 - 0.5 - 0.5);
    }));

  it('forbids ending tokens below minTokens, and not at it', () =>
    withScope(device, (s) => {
      const sampler = { ...plain, temperature: 0, minTokens: 3, endIds: [1, 2] };
      const rows = [0, 2, 3, 4].map((position) => ({ logits: Float32Array.of(0, 2, 3), sampler, position }));
      expect(run(s, rows)).toEqual([0, 0, 2, 2]);
    }));

  describe('counting', () => {
    const seeing = { repetitionPenalty: 1.4, presencePenalty: 0.3, frequencyPenalty: 0.7, promptIds: [1, 5, 5] };
    const vocab = 33;
    const steps = 60;
    const noise = new Random(7).floats(steps * vocab, 'f32', 2);
    const at = (step: number) => noise.subarray(step * vocab, (step + 1) * vocab);

    /** Draws step by step; what the slot has counted must be what it drew. */
    function follow(s: Scope, samplers: SamplerTable, slot: number, sampler: Sampler): number[] {
      const outputIds: number[] = [];
      for (let position = 0; position < steps; position++) {
        const row = { logits: at(position), sampler: { ...sampler, outputIds }, position };
        const [id] = call(s, samplers, [row], [slot]);
        expect(acceptable(row), `step ${position}`).toContain(id);
        outputIds.push(id!);
      }
      return outputIds;
    }

    it('goes from step to step', () =>
      withScope(device, (s) => {
        for (const temperature of [0, 1]) {
          const samplers = s.own(new SamplerTable(device, 1, vocab));
          const sampler = { ...plain, ...seeing, temperature };
          samplers.set(0, sampler);
          const ids = follow(s, samplers, 0, sampler);
          // The test would be blind if counting changed nothing.
          samplers.set(0, { ...plain, temperature });
          const without = Array.from(
            { length: steps },
            (_, position) => call(s, samplers, [{ logits: at(position), position }], [0])[0]!,
          );
          expect(ids).not.toEqual(without);
        }
      }));

    it('starts anew when a slot is given to another sequence, and goes on where outputs come with it', () =>
      withScope(device, (s) => {
        const samplers = s.own(new SamplerTable(device, 2, vocab));
        const sampler = { ...plain, ...seeing };
        samplers.set(0, sampler);
        const first = follow(s, samplers, 0, sampler);
        samplers.set(0, {});
        samplers.set(0, { ...sampler, promptIds: [] });
        follow(s, samplers, 0, { ...sampler, promptIds: [] });
        samplers.set(0, sampler);
        expect(follow(s, samplers, 0, sampler)).toEqual(first);
        // As after a preemption: the second half, in another slot.
        const half = steps / 2;
        samplers.set(1, { ...sampler, outputIds: first.slice(0, half) });
        const rest = Array.from(
          { length: half },
          (_, i) => call(s, samplers, [{ logits: at(half + i), position: half + i }], [1])[0]!,
        );
        expect(rest).toEqual(first.slice(half));
      }));

    it('is of each slot alone, and not of the forced ids', () =>
      withScope(device, (s) => {
        const samplers = s.own(new SamplerTable(device, 3, vocab));
        const both = [0, 1].map((i) => ({ ...plain, ...seeing, seed: BigInt(i), promptIds: [i] }));
        const alone = both.map((sampler) => {
          samplers.set(2, sampler);
          return follow(s, samplers, 2, sampler);
        });
        both.forEach((sampler, i) => {
          samplers.set(i, sampler);
        });
        for (let position = 0; position < steps; position++) {
          // A scored prompt of slot 0 beside the rows that draw: its ids are answers, and nothing else.
          const row = { logits: at(position), position };
          const ids = call(s, samplers, [row, row, row, row], [0, 1, 0, 0], {
            forcedIds: [-1, -1, 3, position % vocab],
          });
          expect(ids).toEqual([alone[0]![position], alone[1]![position], 3, position % vocab]);
        }
      }));

    it('of rows of one slot in one call happens after the call', () =>
      withScope(device, (s) => {
        const samplers = s.own(new SamplerTable(device, 1, 2));
        samplers.set(0, { temperature: 0, frequencyPenalty: 1 });
        const row = { logits: Float32Array.of(0, 1.5), position: 0 };
        expect(call(s, samplers, [row, row, row], [0, 0, 0])).toEqual([1, 1, 1]);
        expect(call(s, samplers, [row], [0])).toEqual([0]);
      }));
  });

  it('forces ids whatever slot and mask say, but not where the row has no numbers', () =>
    withScope(device, (s) => {
      const sampler = { ...plain, logitBias: new Map([[2, Number.NEGATIVE_INFINITY]]) };
      const values = [
        [0, 1, 2],
        [0, 1, 2],
        [0, Number.NaN, 2],
        [0, Number.POSITIVE_INFINITY, 2],
        [-1, Number.NEGATIVE_INFINITY, Number.NEGATIVE_INFINITY],
      ];
      const rows = values.map((row) => ({ logits: Float32Array.from(row), sampler, position: 0 }));
      const extras = { bitmask: new Int32Array(5), forcedIds: [2, -1, 2, 0, 2] };
      expect(run(s, rows, extras)).toEqual([2, -2, -1, -1, 2]);
    }));

  it('refuses indices that would be followed out of their lists, and tables of another vocabulary', () =>
    withScope(device, (s) => {
      const rows = [{ logits: Float32Array.of(0, 1, 2), sampler: plain, position: 0 }];
      const bitmask = Int32Array.of(7, 7);
      const refused = (extras: Extras, message: RegExp) => expect(() => run(s, rows, extras)).toThrow(message);
      refused({ forcedIds: [3] }, /forcedIds\[0\] is 3, expected -1 to 2/);
      refused({ forcedIds: [-2] }, /forcedIds\[0\] is -2/);
      refused({ bitmask, masks: 2, maskRows: [2] }, /maskRows\[0\] is 2, expected -1 to 1/);
      refused({ bitmask, masks: 2, maskRows: [-2] }, /maskRows\[0\] is -2/);
      refused({ bitmask, masks: 2 }, /bitmask has 2 rows, expected rows = 1 from logits without maskRows/);
      refused({ maskRows: [0] }, /bitmask with maskRows/);
      const other = s.own(new SamplerTable(device, 1, 4));
      const ids = s.out([1], 'i32');
      const operands = { logits: s.floats([0, 1, 2], [1, 3]), slots: s.ints([0]), outputPositions: s.ints([0]), ids };
      expect(() => ops.sync.sample({ ...operands, samplers: other })).toThrow(/vocabulary of 4, expected V = 3/);
    }));
});

describeLevels('SamplerTable', (device) => {
  it('takes memory for counts when a slot first needs it, and keeps it', () =>
    withScope(device, (s) => {
      const samplers = s.own(new SamplerTable(device, 4, 1000));
      const empty = device.allocatedBytes;
      samplers.set(1, { temperature: 1, topK: 4 });
      expect(device.allocatedBytes).toBe(empty);
      samplers.set(1, { presencePenalty: 1 });
      expect(device.allocatedBytes - empty).toBe(8 * 1000 + 4);
      for (const outputIds of [[1, 2], [], [3]]) samplers.set(1, { presencePenalty: 2, outputIds });
      samplers.set(1, {});
      expect(device.allocatedBytes - empty).toBe(8 * 1000 + 4);
    }));

  it('refuses values and tokens out of range, naming them, and leaves the slot as it was', () =>
    withScope(device, (s) => {
      const samplers = s.own(new SamplerTable(device, 1, 3));
      samplers.set(0, { logitBias: new Map([[0, 9]]) });
      const inf = Number.POSITIVE_INFINITY;
      const wrong: [object, RegExp][] = [
        [{ repetitionPenalty: 0 }, /repetitionPenalty/],
        [{ repetitionPenalty: Number.NaN }, /repetitionPenalty/],
        [{ presencePenalty: inf }, /presencePenalty/],
        [{ frequencyPenalty: 1e39 }, /frequencyPenalty/],
        [{ minTokens: -1 }, /minTokens/],
        [{ minTokens: 2 ** 31 }, /minTokens/],
        [{ logitBias: new Map([[3, 0]]) }, /0 to 2 for logitBias but received 3/],
        [{ logitBias: new Map([[0, inf]]) }, /-Infinity for logitBias/],
        [{ endIds: [-1] }, /endIds/],
        [{ promptIds: [0, 1.5] }, /promptIds/],
        [{ outputIds: Int32Array.of(3) }, /outputIds/],
      ];
      for (const [options, message] of wrong) expect(() => samplers.set(0, options)).toThrow(message);
      expect(() => new SamplerTable(device, 1, 0)).toThrow(/vocabSize/);
      expect(call(s, samplers, [{ logits: Float32Array.of(0, 1, 2), position: 0 }], [0])).toEqual([0]);
    }));
});

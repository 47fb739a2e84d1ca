// The stream of batches: every token once an epoch, sources in their shares, and the same batches however often a run is
// stopped and restored.

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type DataSource, DataStream, type PackedBatch, type StreamOptions } from '../../../lib/train/data/packer.ts';

/** Documents whose ids say which token of which document they are. */
function sourceOf(name: string, lengths: readonly number[], change: Partial<DataSource> = {}): DataSource {
  const starts = Int32Array.from([0, ...lengths.map((_, i) => lengths.slice(0, i + 1).reduce((a, b) => a + b, 0))]);
  const ids = Int32Array.from({ length: starts.at(-1)! }, (_, i) => i);
  const answers = new Uint8Array(ids.length);
  const hasAnswers = new Uint8Array(lengths.length);
  return { name, ids, answers, starts, hasAnswers, ...change };
}

const options: StreamOptions = { tokensPerBatch: 64, maxSeqs: 8, maxLength: 32, seed: 5 };
const batches = (stream: DataStream, count: number) => Array.from({ length: count }, () => stream.next());

const lengthsOf = (batch: PackedBatch) => Array.from(batch.starts.subarray(1), (end, i) => end - batch.starts[i]!);

function checkShape(batch: PackedBatch, { tokensPerBatch, maxSeqs, maxLength }: StreamOptions): void {
  const rows = batch.ids.length;
  expect(rows).toBeGreaterThan(0);
  expect(rows).toBeLessThanOrEqual(tokensPerBatch);
  expect([batch.weights.length, batch.masks.length, batch.starts[0], batch.starts.at(-1)]).toEqual([
    rows,
    rows,
    0,
    rows,
  ]);
  const lengths = lengthsOf(batch);
  expect(lengths.length).toBeLessThanOrEqual(maxSeqs);
  for (const length of lengths) expect(length >= 2 && length <= maxLength).toBe(true);
  for (const end of batch.starts.subarray(1)) expect(batch.weights[end - 1]).toBe(0);
}

/** Ids that are predicted in a batch, counted. */
function countPredicted(counts: Map<number, number>, { ids, starts, weights }: PackedBatch): void {
  for (let s = 0; s + 1 < starts.length; s++) {
    for (let row = starts[s]!; row + 1 < starts[s + 1]!; row++) {
      // A sequence is a run of one document.
      expect(ids[row + 1]).toBe(ids[row]! + 1);
      if (weights[row]! > 0) counts.set(ids[row + 1]!, (counts.get(ids[row + 1]!) ?? 0) + 1);
    }
  }
}

const shapes = fc.record({
  lengths: fc
    .array(fc.integer({ min: 1, max: 150 }), { minLength: 1, maxLength: 40 })
    .filter((all) => Math.max(...all) > 1),
  maxLength: fc.integer({ min: 2, max: 60 }),
  room: fc.integer({ min: 0, max: 100 }),
  maxSeqs: fc.integer({ min: 1, max: 9 }),
  seed: fc.integer(),
});

describe('one source', () => {
  it('brings every token but the first of each text exactly once an epoch', () => {
    fc.assert(
      fc.property(shapes, ({ lengths, maxLength, room, maxSeqs, seed }) => {
        const settings = { maxLength, tokensPerBatch: maxLength + room, maxSeqs, seed };
        const source = sourceOf('texts', lengths);
        const stream = new DataStream([source], settings);
        const counts = new Map<number, number>();
        while (stream.state().sources[0]!.epoch < 3) {
          const batch = stream.next();
          checkShape(batch, settings);
          countPredicted(counts, batch);
        }
        // Windows that are drawn and wait for room count too; then whole epochs are out, and the begun one in part.
        const { epoch, cursor, held } = stream.state().sources[0]!;
        for (const [document, from, length] of held) {
          const first = source.starts[document]! + from;
          for (let id = first + 1; id < first + length; id++) counts.set(id, (counts.get(id) ?? 0) + 1);
        }
        const firsts = new Set(source.starts);
        for (const id of source.ids) {
          const count = (counts.get(id) ?? 0) - epoch;
          if (firsts.has(id)) expect(count).toBe(-epoch);
          else expect(count === 0 || (count === 1 && cursor > 0)).toBe(true);
        }
      }),
      { numRuns: 60 },
    );
    // Where everything fits and nothing waits, exactly.
    const source = sourceOf('texts', [10, 20, 32, 5, 1, 2]);
    const stream = new DataStream([source], { ...options, maxSeqs: 1 });
    const counts = new Map<number, number>();
    for (const batch of batches(stream, 5)) countPredicted(counts, batch);
    const firsts = new Set(source.starts);
    expect([...counts].sort((a, b) => a[0] - b[0])).toEqual(
      [...source.ids].filter((id) => !firsts.has(id)).map((id) => [id, 1]),
    );
  });

  it('cuts a long text elsewhere each epoch, and never leaves a token out', () => {
    const stream = new DataStream([sourceOf('long', [200])], { ...options, maxSeqs: 1 });
    const cuts: string[] = [];
    for (let epoch = 0; epoch < 4; epoch++) {
      const counts = new Map<number, number>();
      const begins: number[] = [];
      while (stream.state().sources[0]!.epoch === epoch) {
        const batch = stream.next();
        begins.push(batch.ids[0]!);
        countPredicted(counts, batch);
      }
      expect([...counts.values()]).toEqual(Array(199).fill(1));
      cuts.push(begins.sort((a, b) => a - b).join());
    }
    // Of 17 places for the first cut, some may come twice.
    expect(new Set(cuts).size).toBeGreaterThan(2);
  });

  it('fills batches well', () => {
    const lengths = Array.from({ length: 300 }, (_, i) => 2 + ((i * 37) % 31));
    const stream = new DataStream([sourceOf('short', lengths)], { ...options, tokensPerBatch: 128, maxSeqs: 64 });
    const rows = batches(stream, 100).reduce((sum, { ids }) => sum + ids.length, 0);
    expect(rows / (100 * 128)).toBeGreaterThan(0.97);
  });

  it('comes in another order each epoch and for each seed', () => {
    const order = (seed: number) => {
      const stream = new DataStream([sourceOf('x', Array(20).fill(4))], {
        ...options,
        maxSeqs: 20,
        tokensPerBatch: 80,
        seed,
      });
      return batches(stream, 2).map(({ ids }) => ids.join());
    };
    expect(new Set([...order(1), ...order(2)]).size).toBe(4);
    expect(order(1)).toEqual(order(1));
  });
});

describe('weights and masks', () => {
  it('are those of the token that a row predicts, and of the row itself', () => {
    const answers = Uint8Array.of(0, 0, 1, 1, 0, 0, 0, 0);
    const source = sourceOf('mixed', [5, 3], { answers, hasAnswers: Uint8Array.of(1, 0) });
    const settings = { ...options, answerWeight: 5, contextWeight: 0.25, textWeight: 2 };
    const batch = new DataStream([source], settings).next();
    const rows = new Map(lengthsOf(batch).map((length, i) => [length, batch.starts[i]!]));
    const of = (array: Float32Array | Uint8Array, length: number) => [
      ...array.subarray(rows.get(length), rows.get(length)! + length),
    ];
    expect(of(batch.weights, 5)).toEqual([0.25, 5, 5, 0.25, 0]);
    expect(of(batch.masks, 5)).toEqual([0, 0, 1, 1, 0]);
    expect(of(batch.weights, 3)).toEqual([2, 2, 0]);
    expect(of(batch.masks, 3)).toEqual([1, 1, 1]);
  });

  it('are never of a cut answer: a document with answers that is too long is left out and counted', () => {
    const source = sourceOf('long', [40, 10], { hasAnswers: Uint8Array.of(1, 1) });
    const stream = new DataStream([source], options);
    expect([stream.leftOut, stream.epochTokens]).toEqual([1, [10]]);
    for (const { ids } of batches(stream, 3)) expect(Math.min(...ids)).toBe(40);
  });
});

describe('several sources', () => {
  it.each([
    [undefined, undefined, 1 / 11],
    [0.4, 0.6, 0.4],
    [1, 9, 0.1],
  ])('with the weights %s and %s come in their shares of tokens', (a, b, share) => {
    const sources = [
      sourceOf('a', Array(10).fill(30), { weight: a }),
      sourceOf('b', Array(300).fill(10), { weight: b }),
    ];
    const stream = new DataStream(sources, options);
    batches(stream, 400);
    const [first, second] = stream.state().sources.map(({ tokens }) => tokens) as [number, number];
    expect(first / (first + second)).toBeCloseTo(share, 2);
    expect(stream.epochs()[0]).toBeCloseTo(first / 300, 9);
  });
});

describe('a stream that is restored', () => {
  it('goes on with the same batches, from any point and any number of times', () => {
    fc.assert(
      fc.property(shapes, fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 6 }), (shape, stops) => {
        const { lengths, maxLength, room, maxSeqs, seed } = shape;
        const settings = { maxLength, tokensPerBatch: maxLength + room, maxSeqs, seed };
        const sources = [sourceOf('a', lengths, { weight: 2 }), sourceOf('b', [...lengths].reverse(), { weight: 1 })];
        const total = stops.reduce((a, b) => a + b, 0);
        const expected = batches(new DataStream(sources, settings), total);
        let stream = new DataStream(sources, settings);
        const actual: PackedBatch[] = [];
        for (const count of stops) {
          actual.push(...batches(stream, count));
          stream = DataStream.restore(sources, settings, JSON.parse(JSON.stringify(stream.state())));
        }
        expect(actual).toEqual(expected);
      }),
      { numRuns: 60 },
    );
  });

  it('has a state that is small and does not change with the stream', () => {
    const stream = new DataStream([sourceOf('x', Array(5000).fill(31))], { ...options, tokensPerBatch: 40 });
    batches(stream, 50);
    const state = stream.state();
    const text = JSON.stringify(state);
    expect(text.length).toBeLessThan(1000);
    batches(stream, 5);
    expect(JSON.stringify(state)).toBe(text);
  });

  it('of other data or options is refused, but its losses may be weighted anew', () => {
    const sources = [sourceOf('x', [10, 20])];
    const state = new DataStream(sources, options).state();
    const restore = (change: Partial<StreamOptions>, data = sources) =>
      DataStream.restore(data, { ...options, ...change }, state);
    expect(() => restore({ answerWeight: 3 })).not.toThrow();
    expect(() => restore({ seed: 6 })).toThrow(/not those of the run to go on with: give the same files/);
    expect(() => restore({ maxLength: 31 })).toThrow(/not those of the run/);
    expect(() => restore({}, [sourceOf('x', [20, 10])])).toThrow(/not those of the run/);
    expect(() => restore({}, [...sources, ...sources])).toThrow(/not those of the run/);
  });
});

describe('a stream is refused', () => {
  it.each([
    [{ maxLength: 1 }, /maxLength/],
    [{ maxSeqs: 0 }, /maxSeqs/],
    [{ tokensPerBatch: 31 }, /at least 32 for tokensPerBatch but received 31/],
    [{ seed: 0.5 }, /seed/],
    [{ contextWeight: -1 }, /contextWeight/],
    [{ textWeight: Number.NaN }, /textWeight/],
  ])('the options %j', (change, message) => {
    expect(() => new DataStream([sourceOf('x', [10])], { ...options, ...change })).toThrow(message);
  });

  it('no sources, or one without documents that fit', () => {
    expect(() => new DataStream([], options)).toThrow(/received none/);
    expect(() => new DataStream([sourceOf('x', [1, 1])], options)).toThrow(/x: expected documents that fit/);
    expect(() => new DataStream([sourceOf('x', [10], { weight: 0 })], options)).toThrow(/the weight 0/);
  });
});

import fc from 'fast-check';
import { expect, it } from 'vitest';
import { ops, type SamplerOptions, SamplerTable } from '../../lib/kernels/index.ts';
import { check, describeLevels, Random, rowCounts, type Scope, seeds, widths, withScope } from './support.ts';

const mask64 = (1n << 64n) - 1n;

function mix64(x: bigint): bigint {
  let y = ((x ^ (x >> 30n)) * 0xbf58476d1ce4e5b9n) & mask64;
  y = ((y ^ (y >> 27n)) * 0x94d049bb133111ebn) & mask64;
  return y ^ (y >> 31n);
}

/** The random number of a token: a function of seed, choice and position alone (three rounds of splitmix64's mixer). */
function uniform(seed: bigint, choice: number, position: number): number {
  const golden = 0x9e3779b97f4a7c15n;
  let x = mix64((seed + golden) & mask64);
  x = mix64((x + golden * (BigInt(choice) + 1n)) & mask64);
  x = mix64((x + golden * (BigInt(position) + 1n)) & mask64);
  return Number(x >> 11n) * 2 ** -53;
}

type Filters = Required<Pick<SamplerOptions, 'temperature' | 'topK' | 'topP' | 'minP' | 'seed' | 'choice'>>;

interface Row {
  logits: Float32Array;
  allowed: (id: number) => boolean;
  options: Filters;
  position: number;
}

/** The ids that an exact sampler may answer: one, or two where the random number is within rounding of a boundary. */
function acceptable({ logits, allowed, options, position }: Row): number[] {
  if (logits.some((x) => Number.isNaN(x) || x === Number.POSITIVE_INFINITY)) return [-1];
  const order = [...logits.keys()]
    .filter((id) => allowed(id) && logits[id] !== Number.NEGATIVE_INFINITY)
    .sort((a, b) => logits[b]! - logits[a]! || a - b);
  const best = order[0];
  if (best === undefined) return [-2];
  if (options.temperature === 0) return [best];
  const weights = new Map(order.map((id) => [id, Math.exp((logits[id]! - logits[best]!) / options.temperature)]));
  const weightOf = (ids: number[]) => ids.reduce((sum, id) => sum + weights.get(id)!, 0);
  let kept = options.topK > 0 ? order.slice(0, options.topK) : order;
  const cuts: number[][] = [];
  if (options.topP < 1) {
    // The first tokens that reach topP; rounding may end the list one token earlier or later.
    const total = weightOf(kept);
    for (const slack of [-1e-5, 0, 1e-5]) {
      let mass = 0;
      const end = kept.findIndex((id) => {
        mass += weights.get(id)!;
        return mass >= (options.topP + slack) * total;
      });
      cuts.push(kept.slice(0, end < 0 ? kept.length : end + 1));
    }
    kept = [];
  } else {
    cuts.push(kept);
  }
  const answers = new Set<number>();
  for (const cut of cuts) {
    for (const slack of [-1e-5, 0, 1e-5]) {
      const ids = cut.filter((id) => weights.get(id)! >= options.minP * (1 + slack)).sort((a, b) => a - b);
      const target = uniform(BigInt(options.seed), options.choice, position) * weightOf(ids);
      for (const shift of [-1e-5, 0, 1e-5]) {
        let mass = 0;
        const at = target + shift * weightOf(ids);
        const chosen = ids.find((id) => {
          mass += weights.get(id)!;
          return mass > at;
        });
        answers.add(chosen ?? ids.at(-1) ?? best);
      }
    }
  }
  return [...answers];
}

const options = fc.record({
  temperature: fc.constantFrom(0, 0.3, 1, 2.5),
  topK: fc.constantFrom(0, 1, 3, 40),
  topP: fc.constantFrom(1, 0.9, 0.3),
  minP: fc.constantFrom(0, 0.05, 0.5),
  seed: fc.bigInt({ min: 0n, max: mask64 }),
  choice: fc.nat(5),
});

function run(s: Scope, rows: Row[], bitmask: Int32Array | null): number[] {
  const vocab = rows[0]?.logits.length ?? 7;
  const samplers = s.own(new SamplerTable(s.device, Math.max(1, rows.length), vocab));
  // Slots in reverse, so that a row that reads its own index instead of its slot shows.
  rows.forEach((row, i) => {
    samplers.set(rows.length - 1 - i, row.options);
  });
  const ids = s.out([rows.length], 'i32');
  const logits = new Float32Array(rows.length * vocab);
  rows.forEach((row, i) => {
    logits.set(row.logits, i * vocab);
  });
  ops.sync.sample({
    logits: s.floats(logits, [rows.length, vocab]),
    samplers,
    slots: s.ints(rows.map((_, i) => rows.length - 1 - i)),
    outputPositions: s.ints(rows.map((row) => row.position)),
    ...(bitmask ? { bitmask: s.ints(bitmask, [rows.length, Math.ceil(vocab / 32)]) } : {}),
    ids,
  });
  return [...ids.toInt32Array()];
}

describeLevels('sample', (device) => {
  it('picks what the reference picks, with any combination of filters and masks', () => {
    const shapes = fc.tuple(rowCounts, widths, options, fc.boolean(), seeds);
    check(
      shapes,
      ([count, vocab, shared, masked, seed]) =>
        withScope(device, (s) => {
          const random = new Random(seed);
          const words = Math.ceil(vocab / 32);
          const bitmask = masked
            ? Int32Array.from({ length: count * words }, () => (random.next() * 2 ** 32) | 0)
            : null;
          const rows = Array.from({ length: count }, (_, i) => ({
            logits: random.floats(vocab, 'f32', 6),
            allowed: (id: number) => !bitmask || ((bitmask[i * words + (id >> 5)]! >>> (id & 31)) & 1) === 1,
            options: shared,
            position: random.below(1000),
          }));
          run(s, rows, bitmask).forEach((id, i) => {
            expect(acceptable(rows[i]!), `row ${i}`).toContain(id);
          });
        }),
      150,
    );
  });

  it('draws with the frequencies of the softmax', () =>
    withScope(device, (s) => {
      const logits = Float32Array.of(0, 1, 2, -1);
      const draws = 4000;
      const rows = Array.from({ length: draws }, (_, position) => ({
        logits,
        allowed: () => true,
        options: { temperature: 1, topK: 0, topP: 1, minP: 0, seed: 42n, choice: 0 },
        position,
      }));
      const counts = new Array(4).fill(0);
      for (const id of run(s, rows, null)) counts[id]++;
      const total = logits.reduce((sum, x) => sum + Math.exp(x), 0);
      // Five standard deviations of a binomial count; the seed is fixed.
      logits.forEach((x, id) => {
        const p = Math.exp(x) / total;
        expect(Math.abs(counts[id] - draws * p), `token ${id}`).toBeLessThan(5 * Math.sqrt(draws * p * (1 - p)));
      });
    }));

  it('answers -1 for rows with NaN or infinity, -2 for rows where the mask allows nothing, and only for them', () =>
    withScope(device, (s) => {
      for (const temperature of [0, 1]) {
        const base = {
          allowed: () => true,
          options: { temperature, topK: 0, topP: 1, minP: 0, seed: 1n, choice: 0 },
          position: 0,
        };
        const inf = Number.POSITIVE_INFINITY;
        const values = [
          [1, 2, 0],
          [1, Number.NaN, 0],
          [inf, 1, 0],
          [-inf, -inf, -inf],
          [-inf, 3, -inf],
        ];
        const rows = values.map((v) => ({ ...base, logits: Float32Array.from(v) }));
        const ids = run(s, rows, null);
        expect(ids.map((id) => id === -1)).toEqual([false, true, true, true, false]);
        expect(ids[4]).toBe(1);
        expect(run(s, rows.slice(0, 1), Int32Array.of(0))).toEqual([-2]);
      }
    }));

  it('takes the lowest id among equals when greedy', () =>
    withScope(device, (s) => {
      for (const vocab of [5, 64, 1000]) {
        const logits = new Float32Array(vocab).fill(-1);
        for (const id of [vocab - 1, vocab - 2, Math.floor(vocab / 2)]) logits[id] = 7;
        const greedy = { temperature: 0, topK: 0, topP: 1, minP: 0, seed: 0n, choice: 0 };
        expect(run(s, [{ logits, allowed: () => true, options: greedy, position: 0 }], null)).toEqual([
          Math.floor(vocab / 2),
        ]);
      }
    }));
});

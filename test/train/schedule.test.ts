import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { learningRate, type Schedule, type ScheduleName } from '../../lib/train/schedule.ts';

const rates = (schedule: Schedule) => Array.from({ length: schedule.steps }, (_, step) => learningRate(step, schedule));
const names: readonly ScheduleName[] = ['linear', 'cosine', 'constant'];

describe('learningRate', () => {
  it('is what get_linear_schedule_with_warmup of transformers gives', () => {
    // LambdaLR of that function, lr 1, 10 steps, 4 of warm-up, before each optimiser step.
    const expected = [0, 0.25, 0.5, 0.75, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6];
    const actual = rates({ steps: 10, warmup: { steps: 4 }, lr: 1, schedule: 'linear' });
    actual.forEach((rate, i) => {
      expect(rate, `step ${i}`).toBeCloseTo(expected[i]!, 12);
    });
  });

  it('is what get_cosine_schedule_with_warmup gives, down to a floor', () => {
    const cosine = { steps: 8, warmup: { steps: 4 }, lr: 2, schedule: 'cosine' } as const;
    const expected = [0, 0.5, 1, 1.5, 2, 1 + Math.SQRT1_2, 1, 1 - Math.SQRT1_2];
    rates(cosine).forEach((rate, i) => {
      expect(rate, `step ${i}`).toBeCloseTo(expected[i]!, 12);
    });
    const half = { ...cosine, floor: 0.5 };
    expect(learningRate(4, half)).toBe(2);
    expect(learningRate(6, half)).toBeCloseTo(1.5, 12);
    expect(learningRate(8, half)).toBeCloseTo(1, 12);
  });

  it('counts a ratio of warm-up down, as int(ratio * steps)', () => {
    const of = (ratio: number, steps: number) =>
      rates({ steps, warmup: { ratio }, lr: 1, schedule: 'constant' }).indexOf(1);
    expect(of(0.05, 200)).toBe(10);
    expect(of(0.05, 119)).toBe(5);
    expect(of(0.05, 19)).toBe(0);
    expect(of(0.29, 100)).toBe(28); // 28.999999999999996, in Python too
  });

  it('begins at once without warm-up, and stays at its end beyond the last step', () => {
    for (const schedule of names) {
      expect(learningRate(0, { steps: 5, lr: 3, schedule })).toBe(3);
      expect(learningRate(99, { steps: 5, lr: 3, schedule })).toBe(schedule === 'constant' ? 3 : 0);
    }
  });

  it('is never outside 0 to lr, rises in warm-up and never after it', () =>
    fc.assert(
      fc.property(
        fc.record({
          steps: fc.integer({ min: 1, max: 60 }),
          ratio: fc.double({ min: 0, max: 1, noNaN: true }),
          lr: fc.double({ min: 0, max: 1, noNaN: true }),
          schedule: fc.constantFrom(...names),
        }),
        ({ steps, ratio, lr, schedule }) => {
          const all = rates({ steps, warmup: { ratio }, lr, schedule });
          const warmup = Math.trunc(ratio * steps);
          for (const [i, rate] of all.entries()) {
            expect(rate).toBeGreaterThanOrEqual(0);
            expect(rate).toBeLessThanOrEqual(lr);
            if (i > 0 && i <= warmup) expect(rate).toBeGreaterThanOrEqual(all[i - 1]!);
            if (i > warmup) expect(rate).toBeLessThanOrEqual(all[i - 1]!);
          }
        },
      ),
    ));

  it('refuses what makes no schedule, and says what', () => {
    const good: Schedule = { steps: 10, lr: 1, schedule: 'linear' };
    const refused: [Partial<Schedule>, string][] = [
      [{ steps: 0 }, 'at least 1 step but received 0'],
      [{ lr: Number.NaN }, 'a learning rate of at least 0 but received NaN'],
      [{ warmup: { steps: 11 } }, '0 to 10 steps of warm-up but received 11'],
      [{ warmup: { steps: 1.5 } }, '0 to 10 steps of warm-up but received 1.5'],
      [{ warmup: { ratio: 1.5 } }, 'a warm-up ratio from 0 to 1 but received 1.5'],
      [{ floor: 0.1 }, 'a floor with the cosine schedule only but received 0.1'],
      [{ schedule: 'cosine', floor: 2 }, 'a floor from 0 to 1 but received 2'],
      [{ schedule: 'step' as ScheduleName }, 'linear, cosine or constant but received step'],
    ];
    for (const [change, message] of refused)
      expect(() => learningRate(0, { ...good, ...change })).toThrow(
        expect.objectContaining({ code: 'ERR_INVALID_ARGUMENT', message: `Expected ${message}` }),
      );
  });
});

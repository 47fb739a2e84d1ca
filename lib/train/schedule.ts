// Learning rates over a run.

import { SwiftKVError } from '../errors.ts';

export type ScheduleName = 'linear' | 'cosine' | 'constant';

export interface Schedule {
  /** Updates in all. */
  steps: number;
  /** Updates until the full rate: a number of them, or a share of all, rounded down as int(ratio * steps). Default: none */
  warmup?: { steps: number } | { ratio: number } | undefined;
  /** The full rate. */
  lr: number;
  /** After warm-up: `linear` to 0, half a `cosine` to floor * lr, or `constant`. */
  schedule: ScheduleName;
  /** Of `cosine`, a share of lr; default 0. */
  floor?: number | undefined;
}

function warmupSteps({ steps, warmup }: Schedule): number {
  if (warmup === undefined) return 0;
  return 'steps' in warmup ? warmup.steps : Math.trunc(warmup.ratio * steps);
}

/** @throws ERR_INVALID_ARGUMENT for values that make no schedule */
export function checkSchedule(schedule: Schedule): void {
  const { steps, warmup, lr, floor } = schedule;
  const expect = (good: boolean, what: string, value: unknown) => {
    if (!good) throw new SwiftKVError('ERR_INVALID_ARGUMENT', `Expected ${what} but received ${String(value)}`);
  };
  expect(Number.isInteger(steps) && steps >= 1, 'at least 1 step', steps);
  expect(Number.isFinite(lr) && lr >= 0, 'a learning rate of at least 0', lr);
  if (warmup !== undefined && 'ratio' in warmup)
    expect(warmup.ratio >= 0 && warmup.ratio <= 1, 'a warm-up ratio from 0 to 1', warmup.ratio);
  const count = warmupSteps(schedule);
  expect(Number.isInteger(count) && count >= 0 && count <= steps, `0 to ${steps} steps of warm-up`, count);
  expect(['linear', 'cosine', 'constant'].includes(schedule.schedule), 'linear, cosine or constant', schedule.schedule);
  expect(floor === undefined || schedule.schedule === 'cosine', 'a floor with the cosine schedule only', floor);
  expect(floor === undefined || (floor >= 0 && floor <= 1), 'a floor from 0 to 1', floor);
}

/**
 * The rate of update `step`, counted from 0. In warm-up it is lr * step / warmup, so the first update of a run with
 * warm-up has rate 0 and only fills AdamW's moments: that is what the schedules of Hugging Face's transformers do, and
 * with them the public recipes. Beyond the last update it stays where the schedule ends.
 */
export function learningRate(step: number, schedule: Schedule): number {
  checkSchedule(schedule);
  const { steps, lr, floor = 0 } = schedule;
  const warmup = warmupSteps(schedule);
  if (step < warmup) return (lr * step) / warmup;
  const done = Math.min(1, (step - warmup) / Math.max(1, steps - warmup));
  switch (schedule.schedule) {
    case 'linear':
      return lr * (1 - done);
    case 'cosine':
      return lr * (floor + (1 - floor) * 0.5 * (1 + Math.cos(Math.PI * done)));
    case 'constant':
      return lr;
  }
}

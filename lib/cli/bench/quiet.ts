// Measures again what others disturbed, a bounded number of times, and keeps the quietest attempt.

import { isDisturbed, othersShare, readCpu } from './cpu-share.ts';

export interface Watched<T> {
  value: T;
  /** Share of the machine's CPU time that other processes took meanwhile; null = unknown. */
  others: number | null;
  /** Still too much, after every attempt. */
  disturbed: boolean;
  attempts: number;
}

export const maxAttempts = 3;

export async function watch<T>(
  threads: number,
  measure: () => Promise<T>,
  attempts = maxAttempts,
): Promise<Watched<T>> {
  let best: Watched<T> | null = null;
  for (let attempt = 1; ; attempt++) {
    const before = readCpu();
    const value = await measure();
    const after = readCpu();
    const others = othersShare(before, after);
    const disturbed = isDisturbed(others, threads, after?.cpus ?? threads);
    if (best === null || (others ?? 0) < (best.others ?? 0)) best = { value, others, disturbed, attempts: attempt };
    best.attempts = attempt;
    if (!best.disturbed || attempt >= attempts) return best;
  }
}

// How requests are sent: all at once, so many at a time, or at a rate.

import { InvalidArgumentError } from 'commander';

export type Load =
  | { kind: 'offline' }
  /** The next request is sent when one has ended. */
  | { kind: 'concurrency'; concurrency: number }
  /** Requests a second, whether others have ended or not. */
  | { kind: 'rate'; rate: number }
  /** Of the requests a second that the first variant finishes when all are sent at once. */
  | { kind: 'fraction'; fraction: number };

export interface LoadFlags {
  offline?: boolean;
  concurrency?: number[];
  rate?: number[];
  rateFraction?: number[];
}

/** All at once unless something else is asked for. What is measured for fractions comes first. */
export function loadsOf({ offline, concurrency = [], rate = [], rateFraction = [] }: LoadFlags): Load[] {
  const loads: Load[] = [
    ...concurrency.map((n): Load => ({ kind: 'concurrency', concurrency: n })),
    ...rate.map((perSecond): Load => ({ kind: 'rate', rate: perSecond })),
    ...rateFraction.map((fraction): Load => ({ kind: 'fraction', fraction })),
  ];
  return offline || loads.length === 0 ? [{ kind: 'offline' }, ...loads] : loads;
}

export function loadName(load: Load): string {
  switch (load.kind) {
    case 'offline':
      return 'all at once';
    case 'concurrency':
      return `${load.concurrency} at a time`;
    case 'rate':
      return `${load.rate}/s`;
    case 'fraction':
      return `${load.fraction} of saturation`;
  }
}

/** Requests a second; null where they do not follow the clock. @param saturation requests a second */
export function rateOf(load: Load, saturation: number): number | null {
  if (load.kind === 'rate') return load.rate;
  return load.kind === 'fraction' ? load.fraction * saturation : null;
}

/** Positive numbers, e.g. 0.5,0.8. */
export function positiveList(text: string): number[] {
  const values = text.split(',').map((part) => (part.trim() === '' ? Number.NaN : Number(part)));
  if (!values.every((value) => Number.isFinite(value) && value > 0)) {
    throw new InvalidArgumentError('Expected numbers above 0 separated by commas.');
  }
  return [...new Set(values)];
}

// Two runs of a benchmark, figure by figure: how B differs from A, and whether that is more than noise. Pure.

import { SwiftKVError } from '../../errors.ts';
import { type BenchFile, directionOf, type Measured } from './compare-file.ts';

export interface Compared {
  row: string;
  figure: string;
  a: number;
  b: number;
  /** B over A. */
  ratio: number;
  /** Share by which the two may differ by chance; null = one of them was measured once. */
  noise: number | null;
  /** `same`: within noise and threshold. `unjudged`: a figure of which neither more nor less is better. */
  verdict: 'worse' | 'better' | 'same' | 'unjudged';
}

export interface Comparison {
  figures: Compared[];
  /** Rows and figures that only one of the two has. */
  onlyA: string[];
  onlyB: string[];
  /** In what the two runs differ besides their figures. */
  differences: { name: string; a: string; b: string }[];
}

/** A difference of two measurements is beyond so many of its standard deviations once in 20 times. */
const deviations = 2;

/**
 * @param threshold share by which B may be worse or better beyond the noise
 * @throws ERR_INVALID_ARGUMENT when the two are of different benchmarks, or have nothing in common
 */
export function compareRuns(a: BenchFile, b: BenchFile, threshold: number): Comparison {
  if (a.command !== b.command) {
    throw new SwiftKVError(
      'ERR_INVALID_ARGUMENT',
      `Expected two files of one benchmark but received ${a.command} (${a.file}) and ${b.command} (${b.file})`,
    );
  }
  const figures: Compared[] = [];
  for (const [row, measured] of a.rows) {
    for (const [figure, before] of measured) {
      const after = b.rows.get(row)?.get(figure);
      if (after !== undefined) figures.push(compareFigure(row, figure, before, after, threshold));
    }
  }
  if (figures.length === 0) {
    throw new SwiftKVError(
      'ERR_INVALID_ARGUMENT',
      `Expected rows that ${a.file} and ${b.file} both have but received [${[...a.rows.keys()].join('; ')}] and ` +
        `[${[...b.rows.keys()].join('; ')}]`,
    );
  }
  return { figures, onlyA: missing(a, b), onlyB: missing(b, a), differences: differencesOf(a, b) };
}

export function compareFigure(row: string, figure: string, a: Measured, b: Measured, threshold: number): Compared {
  const noise =
    a.scatter === null || b.scatter === null ? null : deviations * Math.sqrt(a.scatter ** 2 + b.scatter ** 2);
  const ratio = a.value === b.value ? 1 : b.value / a.value;
  const direction = directionOf(figure);
  const compared = { row, figure, a: a.value, b: b.value, ratio, noise };
  if (direction === 'neither') return { ...compared, verdict: 'unjudged' };
  // Above 1: how many times worse B is. A figure that falls to 0 is infinitely worse or better.
  const worse = direction === 'lower' ? ratio : 1 / ratio;
  const allowed = 1 + (noise ?? 0) + threshold;
  return { ...compared, verdict: worse > allowed ? 'worse' : 1 / worse > allowed ? 'better' : 'same' };
}

/** Rows, and figures of common rows, that `other` lacks. */
function missing({ rows }: BenchFile, other: BenchFile): string[] {
  return [...rows].flatMap(([row, figures]) => {
    const others = other.rows.get(row);
    if (others === undefined) return row;
    return [...figures.keys()].filter((figure) => !others.has(figure)).map((figure) => `${row} ${figure}`);
  });
}

function differencesOf(a: BenchFile, b: BenchFile): Comparison['differences'] {
  const names = new Set([...Object.keys(a.conditions), ...Object.keys(b.conditions)]);
  return [...names]
    .map((name) => ({ name, a: a.conditions[name] ?? 'none', b: b.conditions[name] ?? 'none' }))
    .filter((difference) => difference.a !== difference.b);
}

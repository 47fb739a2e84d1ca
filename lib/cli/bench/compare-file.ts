// The JSON of an earlier benchmark as rows of figures that can be compared, whichever benchmark it was.

import { readFile } from 'node:fs/promises';
import { SwiftKVError } from '../../errors.ts';
import { type Direction, type FigureName, figureDirections } from './throughput-figures.ts';

/** A figure as it was measured. */
export interface Measured {
  value: number;
  /** Standard deviation of one measurement, as a share of the value; null = it was measured once. */
  scatter: number | null;
}

export interface BenchFile {
  file: string;
  command: string;
  /** What was measured on, with what: whatever should be the same on both sides. */
  conditions: Record<string, string>;
  /** By row, then by figure. */
  rows: Map<string, Map<string, Measured>>;
}

/** What a file is measured by, and how its rows are told apart. */
interface Kind {
  key: (row: Fields) => unknown[];
  figures: (row: Fields, where: string) => Map<string, Measured>;
}

type Fields = Record<string, unknown>;

const kinds: Record<string, Kind> = {
  'bench throughput': { key: (row) => [row.model, row.variant, row.load], figures: roundFigures },
  'bench latency': { key: (row) => [row.model, row.variant, row.test], figures: spreadFigures },
  'bench kernels': {
    key: (row) => [row.shape, row.op, row.name, row.dtype, `rows ${row.rows}`, row.context],
    figures: spreadFigures,
  },
};

export const comparedKinds = Object.keys(kinds);

/** The interquartile range of a normal distribution, in standard deviations. */
const iqrDeviations = 1.349;
/** Flags that say where results go. */
const outputFlags = new Set(['json', 'markdown']);

/** Whether more of a figure is better. */
export function directionOf(figure: string): Direction {
  return figure === 'ms' ? 'lower' : figureDirections[figure as FigureName];
}

/** @throws ERR_IO, ERR_INVALID_ARGUMENT saying where the file is not what a benchmark writes */
export async function readBenchFile(file: string): Promise<BenchFile> {
  const text = await readFile(file, 'utf8').catch((cause) => {
    throw new SwiftKVError('ERR_IO', `Reading ${file} failed: ${cause.message}`, { cause });
  });
  return parseBenchFile(text, file);
}

export function parseBenchFile(text: string, file: string): BenchFile {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch (cause) {
    throw wrong(file, `JSON (${(cause as Error).message})`, text.slice(0, 40));
  }
  const { environment, results } = fieldsOf(body, file);
  const { command, flags, ...machine } = fieldsOf(environment, `${file}: environment`);
  const kind = typeof command === 'string' && Object.hasOwn(kinds, command) ? kinds[command]! : null;
  if (kind === null) throw wrong(`${file}: environment.command`, `one of ${comparedKinds.join(', ')}`, command);
  if (!Array.isArray(results)) throw wrong(`${file}: results`, 'a list', results);
  const rows: BenchFile['rows'] = new Map();
  for (const [i, result] of results.entries()) {
    const where = `${file}: results[${i}]`;
    const row = fieldsOf(result, where);
    const key = kind
      .key(row)
      .filter((part) => part !== null && part !== '')
      .join(' ');
    // A variant that every group has stands once for each: the first one.
    if (!rows.has(key)) rows.set(key, kind.figures(row, where));
  }
  return { file, command: command as string, conditions: conditionsOf(machine, fieldsOf(flags ?? {}, file)), rows };
}

function conditionsOf(machine: Fields, flags: Fields): Record<string, string> {
  const conditions: Record<string, string> = {};
  for (const [name, value] of Object.entries(machine)) if (name !== 'date') conditions[name] = JSON.stringify(value);
  for (const [name, value] of Object.entries(flags)) {
    if (!outputFlags.has(name)) conditions[`--${name}`] = JSON.stringify(value);
  }
  return conditions;
}

/** Of throughput: each figure with its rounds. */
function roundFigures(row: Fields, where: string): Map<string, Measured> {
  const figures = new Map<string, Measured>();
  for (const [name, value] of Object.entries(fieldsOf(row.figures, `${where}.figures`))) {
    if (value === null || !Object.hasOwn(figureDirections, name)) continue;
    const at = `${where}.figures.${name}`;
    const { median, rounds } = fieldsOf(value, at);
    if (!Array.isArray(rounds) || rounds.length === 0) throw wrong(`${at}.rounds`, 'a list of numbers', rounds);
    const numbers = rounds.map((round, i) => finite(round, `${at}.rounds[${i}]`));
    figures.set(name, { value: finite(median, `${at}.median`), scatter: scatterOf(numbers) });
  }
  return figures;
}

/** Of latency and kernels: milliseconds with their quartiles. */
function spreadFigures(row: Fields, where: string): Map<string, Measured> {
  const { median, low, high, samples } = fieldsOf(row.ms, `${where}.ms`);
  const value = finite(median, `${where}.ms.median`);
  const width = finite(high, `${where}.ms.high`) - finite(low, `${where}.ms.low`);
  const several = finite(samples, `${where}.ms.samples`) > 1 && value > 0;
  return new Map([['ms', { value, scatter: several ? width / iqrDeviations / value : null }]]);
}

/** The sample standard deviation over the mean. */
function scatterOf(rounds: readonly number[]): number | null {
  if (rounds.length < 2) return null;
  const mean = rounds.reduce((sum, value) => sum + value, 0) / rounds.length;
  const squares = rounds.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  return mean === 0 ? 0 : Math.sqrt(squares / (rounds.length - 1)) / Math.abs(mean);
}

function fieldsOf(value: unknown, where: string): Fields {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields;
  throw wrong(where, 'an object', value);
}

function finite(value: unknown, where: string): number {
  if (typeof value === 'number' && Number.isFinite(value)) return value;
  throw wrong(where, 'a number', value);
}

function wrong(where: string, expected: string, received: unknown): SwiftKVError {
  const shown = received === undefined ? 'nothing' : JSON.stringify(received).slice(0, 80);
  return new SwiftKVError('ERR_INVALID_ARGUMENT', `${where}: expected ${expected} but received ${shown}`);
}

// swiftkv eval --pair: what `--json` of earlier runs says, checked, as rows that can be compared.

import { SwiftKVError } from '../../errors.ts';
import { readText, wrongItem } from '../../eval/json-lines.ts';
import type { EvalResult } from './evaluate.ts';
import type { Row } from './pair.ts';

const measures = ['perplexity', 'agreement', 'exact', 'choices'] as const;
type Measure = (typeof measures)[number];

export interface EvalFile {
  file: string;
  settings: Fields;
  data: Fields;
  results: EvalResult[];
}

type Fields = Record<string, unknown>;

/** The settings that say what a measure is taken of, besides which items; what a model runs with may differ. */
const settingsOf: Record<Measure, readonly string[]> = {
  perplexity: ['window', 'stride', 'separator', 'every', 'limit'],
  agreement: ['agree'],
  exact: ['by', 'every', 'limit'],
  choices: ['format', 'shots', 'every', 'limit'],
};

export interface PairedFiles {
  /** With the measures that every file has. */
  rows: Row[];
  /** Measures that only some have. */
  left: Measure[];
}

/** @throws ERR_IO; ERR_INVALID_ARGUMENT for what no evaluation writes, and for other items or settings */
export async function readPairedFiles(names: readonly string[]): Promise<PairedFiles> {
  if (names.length < 2) {
    throw new SwiftKVError('ERR_INVALID_ARGUMENT', 'Expected two or more files of --json after --pair');
  }
  const files: EvalFile[] = [];
  for (const name of names) files.push(parseEvalFile(await readText(name), name));
  return pairFiles(files);
}

export function pairFiles(files: readonly EvalFile[]): PairedFiles {
  const found = measures.filter((measure) => files.some(({ results }) => results[0]![measure] !== undefined));
  const common = found.filter((measure) => files.every(({ results }) => results[0]![measure] !== undefined));
  if (common.length === 0) {
    const had = files.map((f) => `${f.file} (${measures.filter((m) => f.results[0]![m] !== undefined).join(', ')})`);
    throw refuse(`Expected a measure that all files have but received ${had.join(' and ')}`);
  }
  const [first, ...others] = files;
  for (const other of others) for (const measure of common) requireComparable(first!, other, measure);
  const rows = files.flatMap(({ file, results }) => results.map((result) => ({ ...result, file })));
  const left = found.filter((measure) => !common.includes(measure));
  for (const row of rows) for (const measure of left) delete row[measure];
  return { rows, left };
}

function requireComparable(first: EvalFile, other: EvalFile, measure: Measure): void {
  for (const name of settingsOf[measure]) {
    const [a, b] = [first, other].map(({ settings }) => JSON.stringify(settings[name] ?? defaultOf(settings, name)));
    if (a === b) continue;
    const flag = `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
    throw refuse(
      `Expected runs of the same settings but ${flag} is ${a ?? 'not set'} in ${first.file} and ${b ?? 'not set'} in ${other.file}`,
    );
  }
  const source = measure === 'agreement' ? 'perplexity' : measure;
  if (first.data[source] !== other.data[source]) {
    throw refuse(`Expected runs of the same items but --${source} is of other ones in ${first.file} and ${other.file}`);
  }
  const ids = idsOf(first.results[0]!, measure);
  for (const [i, result] of other.results.entries()) {
    const where = `${other.file}: results[${i}].${measure}`;
    const others = idsOf(result, measure);
    const at = ids.findIndex((id, k) => id !== others[k]);
    if (at >= 0) throw wrongItem(where, `item ${ids[at]} as in ${first.file}`, others[at]);
    if (others.length > ids.length) throw wrongItem(where, `${ids.length} items as in ${first.file}`, others.length);
  }
}

function defaultOf({ window }: Fields, name: string): unknown {
  if (name === 'stride') return window;
  return name === 'every' ? 1 : undefined;
}

/** Windows of another tokenizer are other ones, which is seen where they are compared, and no mistake. */
function idsOf(result: EvalResult, measure: Measure): string[] {
  return measure === 'exact' || measure === 'choices' ? result[measure]!.perItem.map(({ id }) => id) : [];
}

/** @throws ERR_INVALID_ARGUMENT with the place of what is wrong */
export function parseEvalFile(text: string, file: string): EvalFile {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch (error) {
    throw refuse(`${file}: not JSON: ${(error as Error).message}`);
  }
  const { settings, data, results } = fields(body, file);
  if (!Array.isArray(results) || results.length === 0) throw wrongItem(`${file}: results`, 'a list of rows', results);
  for (const [i, row] of results.entries()) checkRow(row, `${file}: results[${i}]`);
  const has = (row: EvalResult) => measures.filter((measure) => row[measure] !== undefined).join();
  for (const [i, row] of results.entries()) {
    if (has(row) !== has(results[0]))
      throw wrongItem(`${file}: results[${i}]`, `the measures ${has(results[0])}`, has(row));
  }
  return { file, settings: fields(settings, `${file}: settings`), data: fields(data, `${file}: data`), results };
}

function checkRow(value: unknown, where: string): void {
  const row = fields(value, where);
  checkKinds(row, { model: 'string', kvCache: 'string' }, where);
  const windows = checkRecords(row, 'perplexity', 'perWindow', { tokens: 'number', nats: 'number' }, where);
  if (windows !== null) checkKinds(fields(row.perplexity, where), { tokenDigest: 'string' }, `${where}.perplexity`);
  const compared = checkRecords(
    row,
    'agreement',
    'perWindow',
    { tokens: 'number', agreement: 'number', kl: 'number' },
    where,
  );
  if (compared !== null && compared !== windows) {
    throw wrongItem(`${where}.agreement.perWindow`, `the ${windows ?? 0} windows of the perplexity`, compared);
  }
  checkRecords(row, 'exact', 'perItem', { id: 'string', group: 'string', correct: 'boolean' }, where);
  checkRecords(
    row,
    'choices',
    'perItem',
    { id: 'string', plain: 'boolean', perToken: 'boolean', perByte: 'boolean' },
    where,
  );
}

type Kind = 'string' | 'number' | 'boolean';

/** How many records a measure has; null where the row does not have it. */
function checkRecords(row: Fields, measure: Measure, list: string, kinds: Record<string, Kind>, where: string) {
  if (row[measure] === undefined) return null;
  const at = `${where}.${measure}.${list}`;
  const records = fields(row[measure], `${where}.${measure}`)[list];
  if (!Array.isArray(records) || records.length === 0) throw wrongItem(at, 'a list', records);
  for (const [i, record] of records.entries()) checkKinds(fields(record, `${at}[${i}]`), kinds, `${at}[${i}]`);
  return records.length;
}

function checkKinds(record: Fields, kinds: Record<string, Kind>, where: string): void {
  for (const [name, kind] of Object.entries(kinds)) {
    if (typeof record[name] !== kind) throw wrongItem(`${where}.${name}`, `a ${kind}`, record[name]);
  }
}

function fields(value: unknown, where: string): Fields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw wrongItem(where, 'an object', value);
  return value as Fields;
}

function refuse(message: string): SwiftKVError {
  return new SwiftKVError('ERR_INVALID_ARGUMENT', message);
}

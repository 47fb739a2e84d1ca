// The tables of an evaluation: a row for each model and cache, a column for each figure; and each against the first.

import { normalisations } from '../../eval/choices.ts';
import type { Interval } from '../../eval/paired.ts';
import type { Estimate } from '../../eval/statistics.ts';
import { type Column, note, renderTable } from '../bench/output.ts';
import { formatCount } from '../table.ts';
import type { EvalResult } from './evaluate.ts';
import type { Paired, PairedRow } from './pair.ts';

export function printResults(results: readonly EvalResult[], markdown: boolean): void {
  process.stdout.write(`${renderTable(columns(results), results, markdown)}\n`);
  const [first] = results;
  const { perplexity, exact, choices, agreement } = first!;
  if (perplexity !== undefined) {
    note(`perplexity: ${formatCount(perplexity.tokens)} tokens in ${formatCount(perplexity.windows)} windows`);
  }
  if (exact !== undefined) note(`exact: ${formatCount(exact.items)} items`);
  if (choices !== undefined) note(`choices: ${formatCount(choices.plain.items)} items`);
  if (agreement !== undefined) note(`agreement and KL: with ${agreement.with}, over the windows of the perplexity`);
}

const choiceTitles = { plain: 'choices', perToken: '/ token', perByte: '/ byte' } as const;

function columns(results: readonly EvalResult[]): Column<EvalResult>[] {
  const list: Column<EvalResult>[] = [
    { title: 'model', align: 'left', cell: (r) => r.model },
    { title: 'KV cache', align: 'left', cell: (r) => r.kvCache },
    right('KV bytes/token', (r) => formatCount(r.kvBytesPerToken)),
  ];
  const [first] = results;
  if (first?.perplexity !== undefined) {
    list.push(
      right('perplexity', ({ perplexity: p }) => plusMinus(p!.perplexity, p!.standardError, 2)),
      right('nats/token', ({ perplexity: p }) => plusMinus(p!.nats, p!.natsStandardError, 4)),
    );
  }
  if (first?.agreement !== undefined) {
    list.push(
      right('agreement', ({ agreement: a }) => percent(a!.agreement)),
      right('KL, nats', ({ agreement: a }) => plusMinus(a!.kl.value, a!.kl.standardError, 4)),
    );
  }
  if (first?.exact !== undefined) {
    list.push(right('exact', (r) => percent(r.exact!)));
    const groups = [...new Set(results.flatMap((r) => r.exact!.groups.map(({ group }) => group)))];
    if (groups.length > 1) {
      const cell = (r: EvalResult, name: string) => {
        const group = r.exact!.groups.find(({ group }) => group === name);
        return group === undefined ? '-' : `${(group.value * 100).toFixed(0)}%`;
      };
      list.push(...groups.map((name) => right<EvalResult>(name, (r) => cell(r, name))));
    }
  }
  if (first?.choices !== undefined) {
    list.push(...normalisations.map((way) => right<EvalResult>(choiceTitles[way], (r) => percent(r.choices![way]))));
  }
  return list;
}

/** The title stands over the table, after an empty line where another table is before it. */
export function printPaired({ against, rows }: Paired, markdown: boolean): void {
  const from = against.file === undefined ? '' : ` of ${against.file}`;
  const title = `against ${against.model} (${against.kvCache})${from}: difference on the same items and windows [95% interval]`;
  process.stdout.write(`${title}\n\n${renderTable(pairedColumns(rows), rows, markdown)}\n`);
  const others = rows.filter(({ perplexity }) => perplexity === null).map(({ model }) => model);
  if (others.length > 0) {
    note(`perplexity: the tokenizer of ${[...new Set(others)].join(', ')} makes other windows, which have no pairs`);
  }
}

function pairedColumns(rows: readonly PairedRow[]): Column<PairedRow>[] {
  const list: Column<PairedRow>[] = [
    { title: 'model', align: 'left', cell: (r) => r.model },
    { title: 'KV cache', align: 'left', cell: (r) => r.kvCache },
  ];
  const [first] = rows;
  if (first?.file !== undefined) list.unshift({ title: 'file', align: 'left', cell: (r) => r.file! });
  if (first?.perplexity !== undefined) {
    const cell = ({ perplexity: p }: PairedRow) => (p === null ? '-' : interval(p!.change, 100, 2));
    list.push(right('perplexity, %', cell));
  }
  if (first?.agreement !== undefined) {
    list.push(
      right('agreement, points', ({ agreement: a }) => (a === null ? '-' : interval(a!.agreement, 100, 1))),
      right('KL, nats', ({ agreement: a }) => (a === null ? '-' : interval(a!.kl, 1, 4))),
    );
  }
  if (first?.exact !== undefined) list.push(right('exact, points', (r) => interval(r.exact!, 100, 1)));
  if (first?.choices !== undefined) {
    for (const way of normalisations) {
      list.push(right(`${choiceTitles[way]}, points`, (r) => interval(r.choices![way], 100, 1)));
    }
  }
  return list;
}

function right<Row>(title: string, cell: (row: Row) => string): Column<Row> {
  return { title, align: 'right', cell };
}

function interval({ value, low, high }: Interval, scale: number, digits: number): string {
  const signed = (x: number) => {
    const text = (x * scale).toFixed(digits);
    if (Number(text) === 0) return text.replace('-', '');
    return x > 0 ? `+${text}` : text;
  };
  return Number.isFinite(low) ? `${signed(value)} [${signed(low)}, ${signed(high)}]` : signed(value);
}

function percent({ value, standardError }: Estimate): string {
  return `${plusMinus(value * 100, standardError * 100, 1)}%`;
}

function plusMinus(value: number, error: number, digits: number): string {
  return Number.isFinite(error) ? `${value.toFixed(digits)} ± ${error.toFixed(digits)}` : value.toFixed(digits);
}

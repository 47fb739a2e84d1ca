// The table of an evaluation: a row for each model and cache, a column for each figure.

import { normalisations } from '../../eval/choices.ts';
import type { Estimate } from '../../eval/statistics.ts';
import { type Column, note, renderTable } from '../bench/output.ts';
import { formatCount } from '../table.ts';
import type { EvalResult } from './evaluate.ts';

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
  const right = (title: string, cell: (r: EvalResult) => string): Column<EvalResult> => ({
    title,
    align: 'right',
    cell,
  });
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
      list.push(...groups.map((name) => right(name, (r) => cell(r, name))));
    }
  }
  if (first?.choices !== undefined) {
    list.push(...normalisations.map((way) => right(choiceTitles[way], (r) => percent(r.choices![way]))));
  }
  return list;
}

function percent({ value, standardError }: Estimate): string {
  return `${plusMinus(value * 100, standardError * 100, 1)}%`;
}

function plusMinus(value: number, error: number, digits: number): string {
  return Number.isFinite(error) ? `${value.toFixed(digits)} ± ${error.toFixed(digits)}` : value.toFixed(digits);
}

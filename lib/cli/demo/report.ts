// The demo's two tables: answers, and what they cost.

import { formatCount, table } from '../table.ts';
import type { Answer, Variant } from './compare.ts';
import type { DemoDocument } from './document.ts';

export interface VariantResult {
  variant: Variant;
  answers: Answer[];
  kvBytesPerToken: number;
}

const mark = (right: boolean | null) => (right === null ? ' ' : right ? '✓' : '✗');

export function printAnswers(document: DemoDocument, results: readonly VariantResult[]): void {
  for (const [i, { question, expected }] of document.questions.entries()) {
    process.stdout.write(`${question}${expected === null ? '' : `  (right: ${expected})`}\n`);
    const width = Math.max(...results.map(({ variant }) => variant.name.length));
    for (const { variant, answers } of results) {
      const answer = answers[i]!;
      process.stdout.write(`  ${mark(answer.right)} ${variant.name.padEnd(width)}  ${oneLine(answer.text)}\n`);
    }
  }
  process.stdout.write('\n');
}

export function printSummary(results: readonly VariantResult[]): void {
  const rows = results.map(({ variant, answers, kvBytesPerToken }) => {
    const judged = answers.filter((a) => a.right !== null);
    const decode = answers.flatMap((a) => a.timings.decodeTokensPerSecond ?? []);
    const run = sum(answers.map((a) => a.usage.rowLayersRun));
    const skipped = sum(answers.map((a) => a.usage.rowLayersSkipped));
    return [
      variant.name,
      judged.length === 0 ? '-' : `${judged.filter((a) => a.right).length} of ${judged.length}`,
      formatCount(Math.round(median(answers.map((a) => a.usage.promptTokens)))),
      `${median(answers.map((a) => a.timings.ttftMs)).toFixed(1)} ms`,
      decode.length === 0 ? '-' : median(decode).toFixed(0),
      formatCount(run),
      `${formatCount(skipped)} (${((100 * skipped) / (run + skipped)).toFixed(0)}%)`,
      formatCount(kvBytesPerToken),
    ];
  });
  const header = ['', 'right', 'prompt tokens', 'TTFT', 'tokens/s', 'rows x layers run', 'skipped', 'KV bytes/token'];
  process.stdout.write(`${table(header, rows, ['left', ...Array<'right'>(header.length - 1).fill('right')])}\n`);
  process.stdout.write(
    '\nTTFT, tokens/s and prompt tokens are medians over the questions; row-layers are sums, counted by the executor.\n',
  );
}

function oneLine(text: string): string {
  const line = text.replace(/\s+/g, ' ');
  return line.length > 60 ? `${line.slice(0, 57)}...` : line;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

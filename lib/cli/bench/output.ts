// Where results go: an aligned table or markdown to the terminal, JSON to a file or to stdout.

import { writeFile } from 'node:fs/promises';
import { SwiftKVError } from '../../errors.ts';
import { type Align, table } from '../table.ts';
import type { BenchEnvironment } from './environment.ts';

export interface OutputFlags {
  /** A file, or `-` for stdout, which then carries nothing else. */
  json?: string;
  markdown?: boolean;
}

export interface Column<Row> {
  title: string;
  align: Align;
  cell: (row: Row) => string;
}

export function renderTable<Row>(columns: readonly Column<Row>[], rows: readonly Row[], markdown: boolean): string {
  const header = columns.map((column) => column.title);
  const cells = rows.map((row) => columns.map((column) => column.cell(row)));
  if (!markdown)
    return table(
      header,
      cells,
      columns.map((column) => column.align),
    );
  const line = (values: readonly string[]) => `| ${values.map((value) => value.replaceAll('|', '\\|')).join(' | ')} |`;
  return [
    line(header),
    line(columns.map(({ align }) => (align === 'right' ? '---:' : '---'))),
    ...cells.map(line),
  ].join('\n');
}

/** Progress goes to stderr, so that stdout holds results only. */
export function note(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** One row on a terminal, overwritten by the next; nothing elsewhere. */
export function status(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r${text}\x1b[K`);
}

/** Every result with its environment, as one object. */
export async function writeJson(
  target: string,
  environment: BenchEnvironment,
  extra: object,
  results: readonly object[],
): Promise<void> {
  const body = { environment, ...extra, results: results.map((result) => ({ ...result, environment })) };
  const text = `${JSON.stringify(body, null, 2)}\n`;
  if (target === '-') {
    process.stdout.write(text);
    return;
  }
  try {
    await writeFile(target, text);
  } catch (error) {
    throw new SwiftKVError('ERR_IO', `Writing ${target} failed: ${(error as Error).message}`, { cause: error });
  }
}

// swiftkv bench compare: is the second of two runs worse than the first, beyond the noise of both?

import { writeFile } from 'node:fs/promises';
import { Command } from 'commander';
import { SwiftKVError } from '../../errors.ts';
import { exitCodes } from '../exit.ts';
import { nonNegativeNumber } from '../model-options.ts';
import { comparedKinds, readBenchFile } from './compare-file.ts';
import { type Compared, type Comparison, compareRuns } from './comparison.ts';
import { type Column, note, type OutputFlags, renderTable } from './output.ts';

interface CompareFlags extends OutputFlags {
  threshold: number;
  all?: boolean;
}

const defaultThreshold = 5;

export function compareCommand(): Command {
  return new Command('compare')
    .description('compare two JSON files of a benchmark; exits with 3 when the second is worse beyond the noise')
    .argument('<a>', 'JSON of the run to compare with')
    .argument('<b>', 'JSON of the run to judge')
    .option('--threshold <percent>', 'what may change in addition to the noise', nonNegativeNumber, defaultThreshold)
    .option('--all', 'also print figures that are not judged')
    .option('--json <file>', 'write the comparison as JSON; - is stdout, instead of the table')
    .option('--markdown', 'print the table as markdown')
    .addHelpText('after', help)
    .action(benchCompare);
}

const help = `
Takes what --json of ${comparedKinds.join(', ')} writes. A figure's noise is twice the standard deviation of the
difference of two single measurements: the rounds' own standard deviation for throughput, the quartiles' (divided by
1.349) for latency and kernels. It is not divided by the root of their number, because the rounds of one run share the
state of the machine. Where a side was measured once the noise is unknown and only the threshold counts. B is worse where
it is slower by more than noise + threshold. Rows that only one file has, and other machines or flags, are warned of.

Exit codes: 0 nothing is worse, 3 something is, 1 the files cannot be compared.

Examples:
  swiftkv bench throughput --json before.json; ...; swiftkv bench throughput --json after.json
  swiftkv bench compare before.json after.json --threshold 3
`;

async function benchCompare(a: string, b: string, flags: CompareFlags): Promise<void> {
  const comparison = compareRuns(await readBenchFile(a), await readBenchFile(b), flags.threshold / 100);
  for (const { name, a: before, b: after } of comparison.differences) note(`${name} differs: ${before} and ${after}`);
  for (const row of comparison.onlyA) note(`only in ${a}: ${row}`);
  for (const row of comparison.onlyB) note(`only in ${b}: ${row}`);
  if (flags.json !== '-') print(comparison, flags);
  if (flags.json !== undefined) await write(flags.json, comparison);
  if (comparison.figures.some(({ verdict }) => verdict === 'worse')) process.exitCode = exitCodes.worse;
}

function print({ figures }: Comparison, flags: CompareFlags): void {
  const shown = flags.all ? figures : figures.filter(({ verdict }) => verdict !== 'unjudged');
  process.stdout.write(`${renderTable(columns, shown, flags.markdown ?? false)}\n`);
  const count = (verdict: Compared['verdict']) => figures.filter((figure) => figure.verdict === verdict).length;
  process.stdout.write(`\n${count('worse')} worse, ${count('better')} better, ${count('same')} within noise\n`);
}

const columns: Column<Compared>[] = [
  { title: 'row', align: 'left', cell: (r) => r.row },
  { title: 'figure', align: 'left', cell: (r) => r.figure },
  { title: 'A', align: 'right', cell: (r) => digits(r.a) },
  { title: 'B', align: 'right', cell: (r) => digits(r.b) },
  { title: 'B/A', align: 'right', cell: (r) => r.ratio.toFixed(3) },
  { title: 'noise', align: 'right', cell: (r) => (r.noise === null ? 'unknown' : `±${(r.noise * 100).toFixed(1)}%`) },
  { title: '', align: 'left', cell: (r) => (r.verdict === 'same' || r.verdict === 'unjudged' ? '' : r.verdict) },
];

const digits = (value: number) => String(Number(value.toPrecision(4)));

async function write(target: string, comparison: Comparison): Promise<void> {
  const text = `${JSON.stringify(comparison, null, 2)}\n`;
  if (target === '-') {
    process.stdout.write(text);
    return;
  }
  await writeFile(target, text).catch((cause) => {
    throw new SwiftKVError('ERR_IO', `Writing ${target} failed: ${cause.message}`, { cause });
  });
}

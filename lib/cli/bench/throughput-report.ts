// The tables of `bench throughput`, and the sentences under them.

import { formatCount } from '../table.ts';
import { formatShare } from './cpu-share.ts';
import type { Column } from './output.ts';
import { median } from './statistics.ts';
import { type FigureName, type TimeName, timeFigures } from './throughput-figures.ts';
import type { Ratio, ThroughputResult } from './throughput-result.ts';
import type { LeftOut } from './variant-groups.ts';

type Row = ThroughputResult;
type Columns = Column<Row>[];

function rowNames(results: readonly Row[]): Columns {
  const several = (of: (r: Row) => string) => new Set(results.map(of)).size > 1;
  const columns: (Column<Row> | false)[] = [
    several((r) => r.model) && { title: 'model', align: 'left', cell: (r) => r.model },
    { title: 'load', align: 'left', cell: (r) => r.load },
    { title: 'variant', align: 'left', cell: (r) => r.variant },
    several((r) => String(r.group)) && { title: 'group', align: 'right', cell: (r) => String(r.group) },
  ];
  return columns.filter((column) => column !== false);
}

/** How much is done. */
export function rateColumns(results: readonly Row[]): Columns {
  const some = (name: FigureName) => results.some((r) => (r.figures[name]?.max ?? 0) > 0);
  const number = (title: string, name: FigureName, digits: number): Column<Row> => ({
    title,
    align: 'right',
    cell: (r) => fixed(r.figures[name]?.median, digits),
  });
  const columns: (Column<Row> | false)[] = [
    ...rowNames(results),
    number('tokens/s', 'combinedTokensPerSecond', 0),
    { title: 'min..max', align: 'right', cell: (r) => range(r.figures.combinedTokensPerSecond, 0) },
    number('in/s', 'inputTokensPerSecond', 0),
    number('out/s', 'outputTokensPerSecond', 1),
    number('requests/s', 'requestsPerSecond', 3),
    { title: 'ratio', align: 'right', cell: (r) => times(r.ratio) },
    { title: 'FLOPs allow', align: 'right', cell: (r) => (r.flopRatio === null ? '' : `${r.flopRatio.toFixed(2)}x`) },
    { title: 'of peak', align: 'right', cell: (r) => (r.ofPeak === null ? '' : `${(r.ofPeak * 100).toFixed(0)}%`) },
    some('steps') && number('rows/step', 'rowsPerStep', 1),
    some('steps') && number('step ms', 'stepMs', 1),
    some('steps') && number('JS us/step', 'jsMicrosecondsPerStep', 0),
    some('steps') && { title: 'running', align: 'right', cell: running },
    { title: 'cache holds', align: 'right', cell: (r) => formatCount(r.fitSequences) },
    some('preemptions') && number('preemptions', 'preemptions', 0),
    some('prefixHitTokens') && number('hit tokens', 'prefixHitTokens', 0),
    results.some((r) => r.figures.goodShare !== null) && { title: 'goodput', align: 'right', cell: goodput },
    { title: 'others', align: 'right', cell: (r) => `${formatShare(r.others)}${r.disturbed ? '!' : ''}` },
  ];
  return columns.filter((column) => column !== false);
}

/** How long requests take. */
export function timeColumns(results: readonly Row[]): Columns {
  const time = (title: string, name: TimeName): Column<Row> => ({
    title,
    align: 'right',
    cell: (r) =>
      timeFigures(name)
        .map((figure) => milliseconds(r.figures[figure]?.median))
        .join(' / '),
  });
  return [
    ...rowNames(results),
    time('TTFT', 'ttft'),
    { title: 'ratio', align: 'right', cell: (r) => times(r.ttftRatio) },
    time('TPOT', 'tpot'),
    { title: 'ratio', align: 'right', cell: (r) => times(r.tpotRatio) },
    time('ITL', 'itl'),
    time('end to end', 'e2e'),
    time('queue', 'queue'),
  ];
}

export function throughputLegend(results: readonly Row[], leftOut: readonly LeftOut[]): string {
  const lines = [
    'Medians over the rounds. Ratio: to the first variant under the same load, measured in turns with it (min..max of the rounds).',
    'FLOPs allow: the ratio of tokens/s at saturation if time followed FLOPs alone. Of peak: of multiply-adds in registers, same run:',
  ];
  for (const kind of new Set(results.map((r) => r.peakKind))) {
    lines.push(
      `  ${kind} ${median(results.filter((r) => r.peakKind === kind).map((r) => r.peakGflops)).toFixed(0)} GFLOP/s`,
    );
  }
  lines.push(
    'Running: sequences in a step, mean and most. Cache holds: so many requests of mean length at once.',
    'Times: p50 / p90 / p99 in ms, interpolated between neighbours, from the time a request was to be sent. ITL: between parts of a stream.',
    'Others: the largest share of the machine that other processes took. ! They took what the kernels needed.',
  );
  for (const { model, variant, reason } of leftOut) lines.push(`Left out: ${model} ${variant}: ${reason}`);
  return lines.join('\n');
}

function running({ figures }: Row): string {
  return `${fixed(figures.meanRunning?.median, 1)} (${fixed(figures.maxRunning?.median, 0)})`;
}

function goodput({ figures }: Row): string {
  const share = figures.goodShare?.median;
  if (share === undefined) return '';
  return `${(share * 100).toFixed(0)}%, ${fixed(figures.goodRequestsPerSecond?.median, 3)}/s`;
}

function times(ratio: Ratio | null): string {
  return ratio === null ? '' : `${ratio.median.toFixed(2)}x (${range(ratio, 2)})`;
}

function range(of: { min: number; max: number } | null, digits: number): string {
  return of === null ? '' : `${of.min.toFixed(digits)}..${of.max.toFixed(digits)}`;
}

function fixed(value: number | undefined, digits: number): string {
  return value === undefined ? '' : value.toFixed(digits);
}

function milliseconds(ms: number | undefined): string {
  return ms === undefined ? '-' : ms.toFixed(ms < 10 ? 2 : ms < 100 ? 1 : 0);
}

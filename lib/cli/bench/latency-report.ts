// The table of `bench latency`, and the sentences under it.

import { formatBytes, formatCount } from '../table.ts';
import { formatShare } from './cpu-share.ts';
import type { LatencyResult } from './latency-result.ts';
import type { Column } from './output.ts';
import { median, relativeSpread } from './statistics.ts';
import type { LeftOut } from './variant-groups.ts';

const ratio = (value: number | null) => (value === null ? '' : `${value.toFixed(2)}x`);

export function latencyColumns(results: readonly LatencyResult[]): Column<LatencyResult>[] {
  const several = (of: (r: LatencyResult) => string) => new Set(results.map(of)).size > 1;
  const columns: (Column<LatencyResult> | false)[] = [
    several((r) => r.model) && { title: 'model', align: 'left', cell: (r) => r.model },
    { title: 'test', align: 'left', cell: (r) => r.test },
    { title: 'variant', align: 'left', cell: (r) => r.variant },
    several((r) => String(r.group)) && { title: 'group', align: 'right', cell: (r) => String(r.group) },
    { title: 'TTFT', align: 'right', cell: (r) => (r.kind === 'prefill' ? `${formatTime(r.ms.median)}` : '') },
    { title: 'TPOT', align: 'right', cell: (r) => (r.kind === 'decode' ? `${formatTime(r.ms.median)}` : '') },
    { title: 'spread', align: 'right', cell: (r) => `±${((relativeSpread(r.ms) / 2) * 100).toFixed(1)}%` },
    { title: 'tokens/s', align: 'right', cell: (r) => r.tokensPerSecond.toFixed(r.tokensPerSecond < 100 ? 1 : 0) },
    { title: 'ratio', align: 'right', cell: (r) => ratio(r.ratio) },
    { title: 'FLOPs allow', align: 'right', cell: (r) => ratio(r.flopRatio) },
    { title: 'of limit', align: 'right', cell: (r) => `${(r.ofLimit * 100).toFixed(0)}%` },
    { title: 'rows x layers skipped', align: 'right', cell: skipped },
    { title: 'KV bytes/token', align: 'right', cell: (r) => formatCount(r.kvBytesPerToken) },
    { title: `fit ${formatBytes(results[0]?.fitBytes ?? 0)}`, align: 'right', cell: (r) => formatCount(r.fitTokens) },
    { title: 'others', align: 'right', cell: (r) => `${formatShare(r.others)}${r.disturbed ? '!' : ''}` },
  ];
  return columns.filter((column) => column !== false);
}

function skipped({ rowLayersRun, rowLayersSkipped }: LatencyResult): string {
  const share = rowLayersSkipped / (rowLayersRun + rowLayersSkipped);
  return `${formatCount(rowLayersSkipped)} (${(share * 100).toFixed(1)}%)`;
}

function formatTime(ms: number): string {
  return `${ms.toFixed(ms < 10 ? 2 : ms < 100 ? 1 : 0)} ms`;
}

export function latencyLegend(results: readonly LatencyResult[], leftOut: readonly LeftOut[]): string {
  const lines = [
    'Ratio: times as fast as the first variant, measured in turns with it. FLOPs allow: the ratio if time followed FLOPs alone.',
    'Of limit: a prompt as a share of the multiply-adds in registers, decoding of the reads from memory, of the same run:',
  ];
  for (const kind of new Set(results.map((r) => r.peakKind))) {
    lines.push(
      `  ${kind} ${median(results.filter((r) => r.peakKind === kind).map((r) => r.peakGflops)).toFixed(0)} GFLOP/s`,
    );
  }
  lines.push(`  read ${median(results.map((r) => r.bandwidthGbps)).toFixed(1)} GB/s`);
  lines.push(
    'Others: the largest share of the machine that other processes took. ! They took what the kernels needed.',
  );
  for (const { model, variant, reason } of leftOut) lines.push(`Left out: ${model} ${variant}: ${reason}`);
  return lines.join('\n');
}

// The table of `bench kernels`, and the sentences under it.

import { formatShare } from './cpu-share.ts';
import type { KernelResult } from './kernel-result.ts';
import type { Column } from './output.ts';
import { median, relativeSpread } from './statistics.ts';

const percent = (share: number | null) => (share === null ? '' : `${(share * 100).toFixed(0)}%`);

export function formatMs(ms: number): string {
  return ms < 1 ? `${(ms * 1e3).toFixed(ms < 0.1 ? 1 : 0)} us` : `${ms.toFixed(ms < 100 ? 2 : 0)} ms`;
}

export function kernelColumns(withShape: boolean): Column<KernelResult>[] {
  const columns: Column<KernelResult>[] = [
    { title: 'shape', align: 'left', cell: (r) => r.shape },
    { title: 'op', align: 'left', cell: (r) => (r.name === '' ? r.op : `${r.op} ${r.name}`) },
    { title: 'dtype', align: 'left', cell: (r) => r.dtype },
    { title: 'rows', align: 'right', cell: (r) => String(r.rows) },
    { title: 'keys', align: 'right', cell: (r) => String(r.context ?? '') },
    { title: 'median', align: 'right', cell: (r) => formatMs(r.ms.median) },
    { title: 'spread', align: 'right', cell: (r) => `±${((relativeSpread(r.ms) / 2) * 100).toFixed(1)}%` },
    { title: 'GFLOP/s', align: 'right', cell: (r) => r.gflops?.toFixed(1) ?? '' },
    { title: 'of peak', align: 'right', cell: (r) => percent(r.ofPeak) },
    { title: 'GB/s', align: 'right', cell: (r) => r.gbps.toFixed(1) },
    { title: 'of read', align: 'right', cell: (r) => percent(r.ofBandwidth) },
    { title: 'of limit', align: 'right', cell: (r) => `${percent(r.ofLimit)}${r.overheadBound ? '*' : ''}` },
    { title: 'others', align: 'right', cell: (r) => `${formatShare(r.others)}${r.disturbed ? '!' : ''}` },
  ];
  return withShape ? columns : columns.slice(1);
}

export function kernelLegend(results: readonly KernelResult[], callMs: number): string {
  const lines = [
    'Spread: half of the calls lie within it. Of peak, of read: of multiply-adds in registers and of reads from memory, measured in between:',
  ];
  for (const kind of new Set(results.map((r) => r.peakKind))) {
    if (kind === null) continue;
    const peaks = results.flatMap((r) => (r.peakKind === kind && r.peakGflops !== null ? [r.peakGflops] : []));
    lines.push(`  ${kind} ${median(peaks).toFixed(0)} GFLOP/s (${range(peaks, 0)})`);
  }
  const bandwidths = results.map((r) => r.bandwidthGbps);
  lines.push(`  read ${median(bandwidths).toFixed(1)} GB/s (${range(bandwidths, 1)})`);
  lines.push('Above 100% of read: the operands fit the caches.');
  lines.push(`* A call from JavaScript costs ${formatMs(callMs)}, more than a fifth of the time of this case.`);
  lines.push('Others: share of the machine that other processes took meanwhile. ! They took what the kernels needed.');
  return lines.join('\n');
}

function range(values: readonly number[], digits: number): string {
  return `${Math.min(...values).toFixed(digits)} to ${Math.max(...values).toFixed(digits)}`;
}

// A measured kernel, against what the machine does at most.

import type { PeakKind } from '../../native/binding.ts';
import type { KernelCase, KernelGroup } from './kernel-case.ts';
import type { Timing } from './meter.ts';
import type { Watched } from './quiet.ts';
import { type Spread, spread } from './statistics.ts';

export interface Rates {
  gflops: number | null;
  gbps: number;
  /** 0 to 1 of the peak of `peakKind`. */
  ofPeak: number | null;
  /** Of the read bandwidth; above 1 where the operands fit the caches. */
  ofBandwidth: number;
  /** What the case could take at least, by the slower of the two, over what it took. */
  ofLimit: number;
  limit: 'compute' | 'memory';
}

export interface KernelResult extends Rates {
  op: string;
  shape: string;
  name: string;
  dtype: string;
  rows: number;
  context: number | null;
  flops: number;
  bytes: number;
  ms: Spread;
  peakKind: PeakKind | null;
  /** GFLOP/s and GB/s measured in between. */
  peakGflops: number | null;
  bandwidthGbps: number;
  /** The call from JavaScript took more than a fifth of the time: the rates say little. */
  overheadBound: boolean;
  others: number | null;
  disturbed: boolean;
  attempts: number;
}

const overheadShare = 0.2;

/** @param peak operations a second, or null @param bandwidth bytes a second */
export function rates(
  { flops, bytes }: Pick<KernelCase, 'flops' | 'bytes'>,
  ms: number,
  peak: number | null,
  bandwidth: number,
): Rates {
  const seconds = ms / 1e3;
  const computes = flops > 0 && peak !== null;
  const computeSeconds = computes ? flops / peak : 0;
  const memorySeconds = bytes / bandwidth;
  return {
    gflops: flops > 0 ? flops / seconds / 1e9 : null,
    gbps: bytes / seconds / 1e9,
    ofPeak: computes ? computeSeconds / seconds : null,
    ofBandwidth: memorySeconds / seconds,
    ofLimit: Math.max(computeSeconds, memorySeconds) / seconds,
    limit: computeSeconds > memorySeconds ? 'compute' : 'memory',
  };
}

export function kernelResult(
  shape: string,
  group: KernelGroup,
  one: KernelCase,
  peakKind: PeakKind | null,
  watched: Watched<Timing>,
  callMs: number,
): KernelResult {
  const { samples, peak, bandwidth } = watched.value;
  const ms = spread(samples);
  return {
    op: group.op,
    shape,
    name: group.name,
    dtype: group.dtype,
    rows: one.rows,
    context: one.context ?? null,
    flops: one.flops,
    bytes: one.bytes,
    ms,
    ...rates(one, ms.median, peak, bandwidth),
    peakKind,
    peakGflops: peak === null ? null : peak / 1e9,
    bandwidthGbps: bandwidth / 1e9,
    overheadBound: callMs > overheadShare * ms.median,
    others: watched.others,
    disturbed: watched.disturbed,
    attempts: watched.attempts,
  };
}

// A row of `bench throughput`: one variant under one load.

import type { ModelInfo } from '../../model/model-info.ts';
import type { PeakKind } from '../../native/binding.ts';
import { requestFlops } from './flops.ts';
import { tokensThatFit } from './latency-grid.ts';
import type { Variant } from './latency-variants.ts';
import type { Watched } from './quiet.ts';
import { median } from './statistics.ts';
import { type Figures, overRounds, type RoundFigures } from './throughput-figures.ts';
import { type Load, loadName } from './throughput-load.ts';
import type { WorkItem } from './workload.ts';

/** Times the first variant's figure under the same load: the median of the rounds' ratios, and their range. */
export interface Ratio {
  median: number;
  min: number;
  max: number;
}

export interface ThroughputResult {
  model: string;
  variant: string;
  source: string;
  load: string;
  kind: Load['kind'];
  /** Requests a second that were sent; null where they did not follow the clock. */
  rate: number | null;
  requests: number;
  promptTokens: number;
  completionTokens: number;
  dtype: string;
  kvCacheDtype: string;
  weightDtypes: string[];
  activationDtype: string;
  weightBytes: number;
  kvPoolBytes: number;
  kvBytesPerToken: number;
  /** Of the mean request, whole blocks, that the cache holds at once. */
  fitSequences: number;
  figures: RoundFigures;
  /** Of combined tokens per second; of the p50 of TTFT and of TPOT. */
  ratio: Ratio;
  ttftRatio: Ratio | null;
  tpotRatio: Ratio | null;
  /** The first ratio if time followed FLOPs alone; null where prefix hits saved some, or the clock says how much is done. */
  flopRatio: number | null;
  gflops: number | null;
  peakKind: PeakKind;
  peakGflops: number;
  /** Of the multiply-adds in registers, measured in the same run; null where prefix hits saved some. */
  ofPeak: number | null;
  group: number;
  others: number | null;
  disturbed: boolean;
}

export interface RowContext {
  variant: Variant;
  info: ModelInfo;
  items: readonly WorkItem[];
  load: Load;
  rate: number | null;
  group: number;
  peakKind: PeakKind;
  /** Operations a second. */
  peak: number;
}

export interface RowBase {
  info: ModelInfo;
  items: readonly WorkItem[];
  passes: readonly Watched<Figures>[];
}

/** @param base of the group's first variant, round by round in turns with this one */
export function throughputResult(
  context: RowContext,
  passes: readonly Watched<Figures>[],
  base: RowBase,
): ThroughputResult {
  const { variant, info, items, load, rate, group, peakKind, peak } = context;
  const figures = overRounds(passes.map(({ value }) => value));
  const hit = [...passes, ...base.passes].some(({ value }) => (value.prefixHitTokens ?? 0) > 0);
  const flops = hit ? null : workloadFlops(info, items);
  const seconds = figures.seconds!.median;
  const others = passes.flatMap((pass) => pass.others ?? []);
  const promptTokens = sum(items, (item) => item.promptTokens);
  const completionTokens = sum(items, (item) => item.maxTokens);
  const ratio = (name: keyof Figures) =>
    ratioOf(
      passes.map(({ value }) => value[name]),
      base.passes.map(({ value }) => value[name]),
    );
  return {
    model: variant.model,
    variant: variant.name,
    source: variant.source,
    load: loadName(load),
    kind: load.kind,
    rate,
    requests: items.length,
    promptTokens,
    completionTokens,
    dtype: info.dtype,
    kvCacheDtype: info.kvCacheDtype,
    weightDtypes: info.weightDtypes,
    activationDtype: info.activationDtype,
    weightBytes: info.bytes.weights,
    kvPoolBytes: info.bytes.kvPool,
    kvBytesPerToken: info.kvBytesPerToken,
    fitSequences: fitSequences(info, (promptTokens + completionTokens) / items.length),
    figures,
    ratio: ratio('combinedTokensPerSecond')!,
    ttftRatio: ratio('ttftP50Ms'),
    tpotRatio: ratio('tpotP50Ms'),
    flopRatio: flops === null || rate !== null ? null : workloadFlops(base.info, base.items) / flops,
    gflops: flops === null ? null : flops / seconds / 1e9,
    peakKind,
    peakGflops: peak / 1e9,
    ofPeak: flops === null ? null : flops / seconds / peak,
    group,
    others: others.length === 0 ? null : Math.max(...others),
    disturbed: passes.some((pass) => pass.disturbed),
  };
}

export function workloadFlops({ config }: Pick<ModelInfo, 'config'>, items: readonly WorkItem[]): number {
  return sum(items, ({ promptTokens, maxTokens }) => requestFlops(config, promptTokens, maxTokens));
}

/** Round by round; null where one of them has nothing. */
export function ratioOf(values: readonly (number | null)[], base: readonly (number | null)[]): Ratio | null {
  const ratios = values.flatMap((value, i) => {
    const other = base[i] ?? null;
    return value === null || other === null ? [] : value / other;
  });
  if (ratios.length === 0) return null;
  return { median: median(ratios), min: Math.min(...ratios), max: Math.max(...ratios) };
}

function fitSequences(info: ModelInfo, meanTokens: number): number {
  const blocks = Math.ceil(meanTokens / info.blockTokens);
  return Math.floor(tokensThatFit(info, info.bytes.kvPool) / (blocks * info.blockTokens));
}

function sum<T>(values: readonly T[], of: (value: T) => number): number {
  return values.reduce((total, value) => total + of(value), 0);
}

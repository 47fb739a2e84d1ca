// A cell of the grid: one variant in one test.

import type { ModelInfo } from '../../model/model-info.ts';
import type { PeakKind } from '../../native/binding.ts';
import { decodeBytes, type LatencyTest, testFlops, testName, tokensThatFit } from './latency-grid.ts';
import type { RequestMeasures } from './latency-model.ts';
import type { Variant } from './latency-variants.ts';
import type { Watched } from './quiet.ts';
import { median, type Spread, spread } from './statistics.ts';

export interface LatencyResult {
  model: string;
  variant: string;
  source: string;
  test: string;
  kind: LatencyTest['kind'];
  tokens: number;
  depth: number;
  dtype: string;
  kvCacheDtype: string;
  /** Those with most bytes first. */
  weightDtypes: string[];
  activationDtype: string;
  /** Time to first token, or time per output token. */
  ms: Spread;
  tokensPerSecond: number;
  /** Times as fast as the first variant of the group, measured in turns with it. */
  ratio: number;
  /** That ratio if a prompt took time in proportion to its FLOPs; null for decoding, which waits for memory. */
  flopRatio: number | null;
  /** Of one request. */
  rowLayersRun: number;
  rowLayersSkipped: number;
  kvBytesPerToken: number;
  fitBytes: number;
  fitTokens: number;
  weightBytes: number;
  /** Of the loaded model, cache and workspace included. */
  totalBytes: number;
  gflops: number;
  gbps: number | null;
  peakKind: PeakKind;
  peakGflops: number;
  bandwidthGbps: number;
  /** Of the peak for a prompt, of the read bandwidth for decoding. */
  ofLimit: number;
  /** Variants of a group were measured in turns. */
  group: number;
  /** The largest share that other processes took during one of the repeats; null = unknown. */
  others: number | null;
  disturbed: boolean;
}

export interface Limits {
  peakKind: PeakKind;
  /** Operations and bytes a second. */
  peak: number;
  bandwidth: number;
}

export interface CellContext {
  variant: Variant;
  info: ModelInfo;
  test: LatencyTest;
  group: number;
  fitBytes: number;
  limits: Limits;
  /** Of all repeats of all variants: what is said where a request is too short to say. */
  others: number | null;
}

export const testMs = ({ kind }: LatencyTest, m: RequestMeasures): number =>
  kind === 'prefill' ? m.ttftMs : m.tpotMs!;

/** @param base of the group's first variant: its measures of the same test, and its info */
export function latencyResult(
  context: CellContext,
  measures: readonly Watched<RequestMeasures>[],
  base: { measures: readonly Watched<RequestMeasures>[]; info: ModelInfo },
): LatencyResult {
  const { variant, info, test, group, fitBytes, limits } = context;
  const ms = spread(measures.map(({ value }) => testMs(test, value)));
  const baseMs = median(base.measures.map(({ value }) => testMs(test, value)));
  const flops = testFlops(info.config, test);
  const bytes = test.kind === 'decode' ? decodeBytes(info, test) : null;
  const perSecond = (amount: number) => amount / (ms.median / 1e3);
  const others = measures.flatMap((m) => (m.others === null ? [] : [m.others]));
  const last = measures.at(-1)!.value;
  return {
    model: variant.model,
    variant: variant.name,
    source: variant.source,
    test: testName(test),
    kind: test.kind,
    tokens: test.tokens,
    depth: test.depth,
    dtype: info.dtype,
    kvCacheDtype: info.kvCacheDtype,
    weightDtypes: info.weightDtypes,
    activationDtype: info.activationDtype,
    ms,
    tokensPerSecond: perSecond(test.kind === 'prefill' ? test.tokens : 1),
    ratio: baseMs / ms.median,
    flopRatio: test.kind === 'prefill' ? testFlops(base.info.config, test) / flops : null,
    rowLayersRun: last.rowLayersRun,
    rowLayersSkipped: last.rowLayersSkipped,
    kvBytesPerToken: info.kvBytesPerToken,
    fitBytes,
    fitTokens: tokensThatFit(info, fitBytes),
    weightBytes: info.bytes.weights,
    totalBytes: info.bytes.total,
    gflops: perSecond(flops) / 1e9,
    gbps: bytes === null ? null : perSecond(bytes) / 1e9,
    peakKind: limits.peakKind,
    peakGflops: limits.peak / 1e9,
    bandwidthGbps: limits.bandwidth / 1e9,
    ofLimit: bytes === null ? perSecond(flops) / limits.peak : perSecond(bytes) / limits.bandwidth,
    group,
    others: others.length === 0 ? context.others : Math.max(...others),
    disturbed: measures.some((m) => m.disturbed),
  };
}

// swiftkv bench throughput: what the engine makes of many requests, variants of a model side by side.

import type { Command } from 'commander';
import { SwiftKVError } from '../../errors.ts';
import { cpuInfo, openDevice } from '../../kernels/device.ts';
import { availableMemory } from '../../machine/memory.ts';
import { withTrace } from '../../trace/chrome-trace.ts';
import { withInterrupt } from '../exit.ts';
import { poissonArrivals } from './arrivals.ts';
import { benchEnvironment, describeEnvironment } from './environment.ts';
import { weightDTypes as products } from './kernel-case.ts';
import { isFixed, type Variant, variantsOf } from './latency-variants.ts';
import { Meter } from './meter.ts';
import { note, renderTable, status, writeJson } from './output.ts';
import { type Watched, watch } from './quiet.ts';
import { median } from './statistics.ts';
import { type Figures, passFigures } from './throughput-figures.ts';
import { type Load, loadName, loadsOf, rateOf } from './throughput-load.ts';
import { ThroughputModel } from './throughput-model.ts';
import { defaultThroughputVariants, type ThroughputFlags, throughputOptions } from './throughput-options.ts';
import type { Sending } from './throughput-pass.ts';
import { rateColumns, throughputLegend, timeColumns } from './throughput-report.ts';
import { type ThroughputResult, throughputResult } from './throughput-result.ts';
import { forEachGroup } from './variant-groups.ts';
import { prefixWorkload, randomWorkload, type WorkItem } from './workload.ts';
import { fileWorkload } from './workload-file.ts';

/** Of the memory that is free at the start. */
const defaultMemoryShare = 0.7;
/** Only the peak is asked of the meter; the memory whose reading gives the bandwidth may be small. */
const meterBytes = 4096;
/** A disturbed pass is repeated once: it is long, and cannot wait for a quiet machine. */
const attempts = 2;

export function throughputCommand(): Command {
  return throughputOptions().action((models: string[], flags: ThroughputFlags) =>
    withInterrupt((signal) => withTrace(flags.trace, () => benchThroughput(models, flags, signal))),
  );
}

async function benchThroughput(models: readonly string[], flags: ThroughputFlags, signal: AbortSignal): Promise<void> {
  const prefixCaching = flags.prefixCaching ?? flags.workload !== 'random';
  const workloads = new Map<string, WorkItem[]>();
  for (const model of models) workloads.set(model, await workloadOf(model, flags));
  const variants = models.flatMap((model) => withDefaults(model, flags));
  const memoryBytes = flags.memory ?? availableMemory() * defaultMemoryShare;
  using device = openDevice({
    ...(flags.threads !== undefined && { threads: flags.threads }),
    ...(flags.isa !== undefined && { level: flags.isa }),
  });
  const chosen = { isa: device.level, threads: device.threads };
  const environment = benchEnvironment('bench throughput', cpuInfo(), chosen, { models, ...flags, prefixCaching });
  note(describeEnvironment(environment));
  using meter = await Meter.open(device, meterBytes);
  const options = { ...chosen, ...engineFlags(flags), prefixCaching, signal };
  const load = (variant: Variant) => {
    status(`loading ${variant.source}`);
    return ThroughputModel.load(variant, workloads.get(variant.model)!, options);
  };
  const results: ThroughputResult[] = [];
  const loads = loadsOf(flags);
  let saturation: number | null = null;
  const leftOut = await forEachGroup(variants, { memoryBytes, load }, async (group, number) => {
    const measured = await measureGroup(group, number, loads, saturation, meter, flags);
    results.push(...measured.results);
    saturation = measured.saturation;
  });
  status('');
  results.sort(
    (a, b) => loads.findIndex((l) => loadName(l) === a.load) - loads.findIndex((l) => loadName(l) === b.load),
  );
  if (flags.json !== '-') {
    for (const columns of [rateColumns(results), timeColumns(results)]) {
      process.stdout.write(`${renderTable(columns, results, flags.markdown ?? false)}\n\n`);
    }
    process.stdout.write(`${throughputLegend(results, leftOut)}\n`);
  }
  if (flags.json !== undefined) await writeJson(flags.json, environment, { leftOut, saturation }, results);
}

function workloadOf(model: string, flags: ThroughputFlags): WorkItem[] | Promise<WorkItem[]> {
  if (flags.workload === 'random') return randomWorkload(flags);
  if (flags.workload === 'prefix') return prefixWorkload(flags);
  if (flags.file !== undefined) return fileWorkload(flags.file, model);
  throw new SwiftKVError('ERR_INVALID_ARGUMENT', 'Expected --file FILE for --workload jsonl but received none');
}

function withDefaults(model: string, flags: ThroughputFlags): Variant[] {
  const names = flags.variants ?? (isFixed(model) ? ['plain'] : defaultThroughputVariants);
  return variantsOf(model, names).map((variant) => ({
    ...(flags.dtype !== undefined && { dtype: flags.dtype }),
    ...(flags.kvDtype !== undefined && { kvCacheDtype: flags.kvDtype }),
    ...(flags.weightDtype !== undefined && { weightDtype: flags.weightDtype }),
    ...variant,
  }));
}

const engineFlags = ({ maxSequences, maxBatchRows, maxStepMs, kvCacheBytes }: ThroughputFlags) => ({
  maxSequences,
  maxBatchRows,
  maxStepMs,
  kvCacheBytes,
});

/** Every load, round by round; within a round the variants take turns. */
async function measureGroup(
  models: readonly ThroughputModel[],
  group: number,
  loads: readonly Load[],
  knownSaturation: number | null,
  meter: Meter,
  flags: ThroughputFlags,
): Promise<{ results: ThroughputResult[]; saturation: number | null }> {
  for (const model of models) await model.warmUp();
  const peakKind = meter.choose(products[models[0]!.info().dtype].peaks);
  if (peakKind === null) throw new SwiftKVError('ERR_INTERNAL', 'The level multiplies nothing');
  const measure = (model: ThroughputModel, sending: Sending) =>
    watch(meter.device.threads, async () => passFigures(await model.pass(sending), flags.objective ?? null), attempts);
  const results: ThroughputResult[] = [];
  let saturation = knownSaturation;
  for (const load of loads) {
    if (load.kind === 'fraction' && saturation === null) {
      status(`saturation of ${models[0]!.variant.name}`);
      saturation = (await measure(models[0]!, allAtOnce)).value.requestsPerSecond;
    }
    const rate = rateOf(load, saturation ?? Number.NaN);
    const passes = models.map((): Watched<Figures>[] => []);
    const peaks: number[] = [];
    for (let round = 0; round < flags.rounds; round++) {
      peaks.push(await meter.peak(peakKind));
      for (const [i, model] of models.entries()) {
        const { variant, items } = model;
        status(`${loadName(load)}: ${variant.model} ${variant.name}, round ${round + 1} of ${flags.rounds}`);
        passes[i]!.push(await measure(model, sendingOf(load, rate, items.length, flags.seed)));
      }
    }
    peaks.push(await meter.peak(peakKind));
    const base = { info: models[0]!.info(), items: models[0]!.items, passes: passes[0]! };
    for (const [i, model] of models.entries()) {
      const { variant, items } = model;
      const context = { variant, info: model.info(), items, load, rate, group, peakKind, peak: median(peaks) };
      results.push(throughputResult(context, passes[i]!, base));
    }
    if (load.kind === 'offline') saturation ??= results.at(-models.length)!.figures.requestsPerSecond!.median;
  }
  return { results, saturation };
}

const allAtOnce: Sending = { kind: 'concurrency', concurrency: Number.POSITIVE_INFINITY };

function sendingOf(load: Load, rate: number | null, count: number, seed: number): Sending {
  if (load.kind === 'concurrency') return { kind: 'concurrency', concurrency: load.concurrency };
  if (rate === null) return allAtOnce;
  return { kind: 'times', atMs: poissonArrivals(count, seed).map((time) => (time / rate) * 1e3) };
}

// swiftkv bench latency: a grid of prompts and answers at depths of context, variants of a model side by side.

import { Command, Option } from 'commander';
import { SwiftKVError } from '../../errors.ts';
import { cpuInfo, openDevice } from '../../kernels/device.ts';
import { availableMemory } from '../../machine/memory.ts';
import { type WeightDType, weightDTypes } from '../../model/weight-dtype.ts';
import { withInterrupt } from '../exit.ts';
import { byteSize, modelArgument, positiveInteger } from '../model-options.ts';
import { othersShare, readCpu } from './cpu-share.ts';
import { benchEnvironment, describeEnvironment } from './environment.ts';
import { weightDTypes as products } from './kernel-case.ts';
import { type LatencyTest, latencyTests, positionsOf, testName } from './latency-grid.ts';
import { LatencyModel, type RequestMeasures } from './latency-model.ts';
import { latencyColumns, latencyLegend } from './latency-report.ts';
import { type LatencyResult, type Limits, latencyResult } from './latency-result.ts';
import { defaultFixedVariants, defaultVariants, type Variant, variantsOf } from './latency-variants.ts';
import { Meter } from './meter.ts';
import { integerList, listOption, nameList, sizeOption } from './options.ts';
import { note, type OutputFlags, renderTable, status, writeJson } from './output.ts';
import { type Watched, watch } from './quiet.ts';
import { median } from './statistics.ts';
import { forEachGroup } from './variant-groups.ts';

export interface LatencyFlags extends OutputFlags {
  pp: number[];
  tg: number[];
  depth: number[];
  variants?: string[];
  threads?: number;
  isa?: string;
  dtype?: 'f32' | 'bf16';
  kvDtype?: 'f32' | 'bf16' | 'fp8';
  weightDtype?: WeightDType;
  repeat: number;
  memory?: number;
  fit: number;
  rotate: number;
}

const defaultModel = 'random:llama-3.2-1b';
/** Of the memory that is free at the start. */
const defaultMemoryShare = 0.7;
/** A disturbed request is measured once more: a long one cannot wait for a quiet machine. */
const attempts = 2;
const warmUp = { prompt: 32, answer: 2 };

export function latencyCommand(): Command {
  return new Command('latency')
    .description('time prompts and answers at depths of context, variants of a model side by side')
    .argument('[models...]', modelArgument, [defaultModel])
    .addOption(listOption('--pp <list>', 'prompt tokens', integerList(1), [128, 512, 2048]))
    .addOption(listOption('--tg <list>', 'tokens to generate', integerList(1), [64]))
    .addOption(listOption('--depth <list>', 'tokens in the cache before', integerList(0), [0, 2048, 8192]))
    .option('--variants <list>', 'forms of each model; the first is what all others are compared with', nameList)
    .option('--threads <n>', 'threads of the kernels (default: from affinity and cgroup quota)', positiveInteger)
    .option('--isa <level>', 'ISA level of the kernels (default: the best here)')
    .addOption(new Option('--dtype <type>', 'what matrix products are computed in').choices(['f32', 'bf16']))
    .addOption(
      new Option('--weight-dtype <type>', 'what matrices are kept in, where a variant does not say').choices(
        weightDTypes,
      ),
    )
    .addOption(
      new Option('--kv-dtype <type>', 'KV cache, where a variant does not say').choices(['f32', 'bf16', 'fp8']),
    )
    .option('--repeat <n>', 'measurements of each cell', positiveInteger, 3)
    .option('--memory <size>', 'of the models that are loaded together (default: 70% of what is free)', byteSize)
    .addOption(sizeOption('--fit <size>', 'memory for which to say how many tokens fit', '1GiB'))
    .addOption(sizeOption('--rotate <size>', 'memory that is read to measure the bandwidth', '256MiB'))
    .option('--json <file>', 'write every result as JSON; - is stdout, instead of the table')
    .option('--markdown', 'print the table as markdown')
    .addHelpText('after', latencyHelp)
    .action((models: string[], flags: LatencyFlags) => withInterrupt((signal) => benchLatency(models, flags, signal)));
}

const latencyHelp = `
Tests: ppN reads a prompt of N tokens until its first token is there (TTFT); tgN generates N tokens after a first one
and gives the time of each (TPOT). "@ dN": behind N tokens that are in the cache before. Those are no prompt that was
read: every slot of every cache holds random keys and values, written with kv_quantize, and a request starts as if it had
computed them. Steps are planned and run by the engine's own scheduler and loop, one request at a time.

Variants: plain is the model as it is named; kvN% gives N% of the layers their own keys and values (SwiftKV: prompt
tokens skip the others), kvN%/G lets G of the others share a cache (AcrossKV). +cache=f32|bf16|fp8, +dtype=f32|bf16,
+weights=fp8|int8|int4 and +activations=fp8 say the rest. By default ${defaultVariants.slice(0, 6).join(', ')},
${defaultVariants.slice(6).join(', ')};
for models whose layers are given ${defaultFixedVariants.join(', ')}.
Variants take turns. Where memory has no room for all of them they are measured in groups, each with the first variant
of the first model in it.

Examples:
  swiftkv bench latency --pp 512,2048 --depth 0 --variants plain,kv50%
  swiftkv bench latency random:llama-3.2-1b --variants plain,kv50%,kv50%/4+cache=fp8 --repeat 5 --markdown
  swiftkv bench latency embedded:base embedded:swiftkv-50 --pp 512 --depth 0,1024 --json latency.json
`;

async function benchLatency(models: readonly string[], flags: LatencyFlags, signal: AbortSignal): Promise<void> {
  const tests = latencyTests(flags.pp, flags.tg, flags.depth);
  const variants = models.flatMap((model) => withDefaults(variantsOf(model, flags.variants), flags));
  const memoryBytes = flags.memory ?? availableMemory() * defaultMemoryShare;
  using device = openDevice({
    ...(flags.threads !== undefined && { threads: flags.threads }),
    ...(flags.isa !== undefined && { level: flags.isa }),
  });
  const chosen = { isa: device.level, threads: device.threads };
  const environment = benchEnvironment('bench latency', cpuInfo(), chosen, { models, ...flags });
  note(describeEnvironment(environment));
  using meter = await Meter.open(device, flags.rotate);
  const results: LatencyResult[] = [];
  const maxModelLen = Math.max(warmUp.prompt + warmUp.answer, ...tests.map(positionsOf));
  const load = (variant: Variant) => {
    status(`loading ${variant.source}`);
    return LatencyModel.load(variant, { ...chosen, signal, maxModelLen });
  };
  const leftOut = await forEachGroup(variants, { memoryBytes, load }, async (group, number) => {
    results.push(...(await measureGroup(group, number, tests, meter, flags)));
  });
  status('');
  results.sort((a, b) => order(tests, a) - order(tests, b));
  if (flags.json !== '-') {
    process.stdout.write(`${renderTable(latencyColumns(results), results, flags.markdown ?? false)}\n`);
    process.stdout.write(`\n${latencyLegend(results, leftOut)}\n`);
  }
  if (flags.json !== undefined) await writeJson(flags.json, environment, { leftOut }, results);
}

const order = (tests: readonly LatencyTest[], result: LatencyResult) =>
  tests.findIndex((test) => testName(test) === result.test);

function withDefaults(variants: readonly Variant[], flags: LatencyFlags): Variant[] {
  return variants.map((variant) => ({
    ...(flags.dtype !== undefined && { dtype: flags.dtype }),
    ...(flags.kvDtype !== undefined && { kvCacheDtype: flags.kvDtype }),
    ...(flags.weightDtype !== undefined && { weightDtype: flags.weightDtype }),
    ...variant,
  }));
}

/** Every test, repeat by repeat; within a repeat the variants take turns. */
async function measureGroup(
  models: readonly LatencyModel[],
  group: number,
  tests: readonly LatencyTest[],
  meter: Meter,
  flags: LatencyFlags,
): Promise<LatencyResult[]> {
  for (const one of models) await one.request(warmUp.prompt, 0, warmUp.answer);
  const results: LatencyResult[] = [];
  for (const test of tests) {
    const measures = models.map((): Watched<RequestMeasures>[] => []);
    const { peakKind, sample, limits } = limitsOf(meter, models[0]!.info().dtype);
    const before = readCpu();
    await sample();
    for (let repeat = 0; repeat < flags.repeat; repeat++) {
      for (const [i, one] of models.entries()) {
        status(`${testName(test)} ${one.variant.model} ${one.variant.name}, ${repeat + 1} of ${flags.repeat}`);
        const request = () =>
          test.kind === 'prefill'
            ? one.request(test.tokens, test.depth, 1)
            : one.request(1, test.depth, test.tokens + 1);
        measures[i]!.push(await watch(meter.device.threads, request, attempts));
      }
      await sample();
    }
    const others = othersShare(before, readCpu());
    const base = { measures: measures[0]!, info: models[0]!.info() };
    for (const [i, one] of models.entries()) {
      const context = {
        variant: one.variant,
        info: one.info(),
        test,
        group,
        fitBytes: flags.fit,
        limits: { peakKind, ...limits() },
        others,
      };
      results.push(latencyResult(context, measures[i]!, base));
    }
  }
  return results;
}

/** The machine's limits, sampled between the repeats. */
function limitsOf(meter: Meter, dtype: 'f32' | 'bf16') {
  const peakKind = meter.choose(products[dtype].peaks);
  if (peakKind === null) throw new SwiftKVError('ERR_INTERNAL', 'The level multiplies nothing');
  const peaks: number[] = [];
  const bandwidths: number[] = [];
  const sample = async () => {
    peaks.push(await meter.peak(peakKind));
    bandwidths.push(await meter.bandwidth());
  };
  const limits = (): Omit<Limits, 'peakKind'> => ({ peak: median(peaks), bandwidth: median(bandwidths) });
  return { peakKind, sample, limits };
}

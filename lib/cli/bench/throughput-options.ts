// The options of `bench throughput`, and its help.

import { Command, InvalidArgumentError, Option } from 'commander';
import { type WeightDType, weightDTypes } from '../../model/weight-dtype.ts';
import { byteSize, kvDTypes, modelArgument, nonNegativeNumber, positiveInteger } from '../model-options.ts';
import { type Objective, parseObjective } from './objective.ts';
import { integerList, nameList } from './options.ts';
import type { OutputFlags } from './output.ts';
import { type LoadFlags, positiveList } from './throughput-load.ts';

export interface ThroughputFlags extends OutputFlags, LoadFlags {
  workload: 'random' | 'prefix' | 'jsonl';
  file?: string;
  requests: number;
  input: number;
  output: number;
  spread: number;
  prefixLength: number;
  prefixCount: number;
  seed: number;
  variants?: string[];
  rounds: number;
  objective?: Objective;
  prefixCaching?: boolean;
  maxSequences: number;
  maxBatchRows?: number;
  maxStepMs?: number;
  kvCacheBytes?: number;
  threads?: number;
  isa?: string;
  dtype?: 'f32' | 'bf16';
  kvDtype?: 'f32' | 'bf16' | 'fp8';
  weightDtype?: WeightDType;
  memory?: number;
  trace?: string;
}

const defaultModel = 'random:llama-276m';
export const defaultThroughputVariants = ['plain', 'kv50%', 'kv37.5%'];

export function throughputOptions(): Command {
  return new Command('throughput')
    .description(
      'many requests at once through the engine: tokens per second, latencies, goodput, variants side by side',
    )
    .argument('[models...]', modelArgument, [defaultModel])
    .option('--offline', 'send all requests at once (what is done where nothing else is asked for)')
    .option('--concurrency <list>', 'so many requests at a time: the next is sent when one has ended', integerList(1))
    .option('--rate <list>', 'requests a second, Poisson arrivals', positiveList)
    .option(
      '--rate-fraction <list>',
      'the same as a fraction of what the first variant finishes when all are sent at once',
      positiveList,
    )
    .addOption(
      new Option('--workload <kind>', 'what requests ask for').choices(['random', 'prefix', 'jsonl']).default('random'),
    )
    .option(
      '--file <file>',
      'of --workload jsonl: {"prompt": TEXT} or {"tokenIds": [...]}, with "maxTokens", a line each',
    )
    .option('--requests <n>', 'requests of a pass', positiveInteger, 64)
    .option('--input <n>', 'mean tokens of a prompt (after its prefix)', positiveInteger, 640)
    .option('--output <n>', 'mean tokens of an answer', positiveInteger, 64)
    .option('--spread <share>', 'lengths are uniform within mean * (1 +- share)', share, 0.25)
    .option('--prefix-length <n>', 'of --workload prefix: tokens of a shared prefix', positiveInteger, 512)
    .option('--prefix-count <n>', 'of --workload prefix: different prefixes', positiveInteger, 4)
    .option('--prefix-caching', 'keep prefixes (default: for --workload prefix and jsonl only)')
    .option('--no-prefix-caching', 'keep none')
    .option('--seed <n>', 'of lengths, tokens and arrivals', nonNegativeInteger, 1)
    .option('--variants <list>', 'forms of each model; the first is what all others are compared with', nameList)
    .option('--rounds <n>', 'passes of each variant under each load, in turns', positiveInteger, 3)
    .option('--objective <list>', 'what goodput counts, ms: ttft=500,tpot=50,e2e=10000', parseObjective)
    .option('--max-sequences <n>', 'sequences that run at once', positiveInteger, 64)
    .option('--max-batch-rows <n>', "rows of one step (default: the engine's)", positiveInteger)
    .option('--max-step-ms <ms>', "what a step aims at (default: the engine's)", positiveNumber)
    .option('--kv-cache-bytes <size>', 'KV cache (default: what --max-sequences of the longest request need)', byteSize)
    .option('--threads <n>', 'threads of the kernels (default: from affinity and cgroup quota)', positiveInteger)
    .option('--isa <level>', 'ISA level of the kernels (default: the best here)')
    .addOption(new Option('--dtype <type>', 'what matrix products are computed in').choices(['f32', 'bf16']))
    .addOption(
      new Option('--weight-dtype <type>', 'what matrices are kept in, where a variant does not say').choices(
        weightDTypes,
      ),
    )
    .addOption(new Option('--kv-dtype <type>', 'KV cache, where a variant does not say').choices(kvDTypes))
    .option('--memory <size>', 'of the models that are loaded together (default: 70% of what is free)', byteSize)
    .option('--trace <file>', 'write steps and requests as Chrome trace events, for https://ui.perfetto.dev')
    .option('--json <file>', 'write every result as JSON; - is stdout, instead of the tables')
    .option('--markdown', 'print the tables as markdown')
    .addHelpText('after', help);
}

const help = `
Requests go through the public engine of this process and are read as streams; every answer has exactly the tokens that
were asked for. Workloads: prompts of random tokens (the lengths' default is ten times as much prompt as answer), the same
behind one of some shared prefixes, or the lines of a file. Passes of a round take turns; a pass begins with an empty
prefix cache and repeats the same requests at the same times.

Arrivals are a Poisson process with exactly the asked rate over the run. Times count from when a request was to be sent,
not from when the engine took it. With --rate-fraction the rate is measured first, by a pass of the first variant in
which all requests are sent at once (of the same run's figures where --offline asks for those).

Variants are written as for "bench latency"; by default ${defaultThroughputVariants.join(', ')}, and plain for models whose layers are given.

Examples:
  swiftkv bench throughput
  swiftkv bench throughput --offline --rate-fraction 0.8 --objective ttft=2000,tpot=200 --json out.json
  swiftkv bench throughput --kv-cache-bytes 64MiB --variants plain,kv50%,kv50%/2,kv50%/4,kv50%/4+cache=fp8
  swiftkv bench throughput embedded:base --concurrency 1,64 --input 32 --output 256 --spread 0
  swiftkv bench throughput embedded:swiftkv-50 --workload prefix --prefix-length 512 --input 64
  swiftkv bench compare before.json after.json
`;

function share(text: string): number {
  const value = nonNegativeNumber(text);
  if (value >= 1) throw new InvalidArgumentError('Expected a number from 0 to less than 1.');
  return value;
}

function positiveNumber(text: string): number {
  const value = nonNegativeNumber(text);
  if (value === 0) throw new InvalidArgumentError('Expected a number above 0.');
  return value;
}

function nonNegativeInteger(text: string): number {
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(Number(text))) {
    throw new InvalidArgumentError('Expected an integer >= 0.');
  }
  return Number(text);
}

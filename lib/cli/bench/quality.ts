// swiftkv bench quality: what fewer bits cost. The same text through variants of a model, compared with the first.

import { readFile } from 'node:fs/promises';
import { Command } from 'commander';
import { openCheckpoint } from '../../checkpoint/checkpoint.ts';
import { Engine } from '../../engine/engine.ts';
import { SwiftKVError } from '../../errors.ts';
import { type Agreement, agreementOf, emptyAgreement, mergeAgreement } from '../../eval/agreement.ts';
import { cpuInfo } from '../../kernels/device.ts';
import { proseFile, resolveModel } from '../../model/embedded.ts';
import { randomPrefix } from '../../model/random.ts';
import { loadTokenizer } from '../../tokenizer/load.ts';
import { withInterrupt } from '../exit.ts';
import { modelArgument, positiveInteger } from '../model-options.ts';
import { benchEnvironment, describeEnvironment } from './environment.ts';
import { type Variant, variantsOf } from './latency-variants.ts';
import { nameList } from './options.ts';
import { type Column, note, type OutputFlags, renderTable, status, writeJson } from './output.ts';

interface QualityFlags extends OutputFlags {
  variants?: string[];
  text?: string;
  window: number;
  windows: number;
  threads?: number;
  isa?: string;
}

export interface QualityResult extends Agreement {
  model: string;
  variant: string;
  weights: string[];
  activations: string;
  kvCache: string;
  weightBytes: number;
}

const defaultModel = 'embedded:base';
const defaultVariants = [
  'plain',
  'plain+weights=int8',
  'plain+weights=fp8',
  'plain+weights=fp8+activations=fp8',
  'plain+weights=int4',
  'plain+cache=fp8',
];

export function qualityCommand(): Command {
  return new Command('quality')
    .description('compare what variants of a model say of the same text: perplexity, agreement, divergence')
    .argument('[model]', modelArgument, defaultModel)
    .option('--variants <list>', 'forms of the model; the first is what all others are compared with', nameList)
    .option('--text <file>', 'UTF-8 text (default: the prose that comes with the package)')
    .option('--window <n>', 'tokens that are scored at a time', positiveInteger, 512)
    .option('--windows <n>', 'windows of text, from its start', positiveInteger, 4)
    .option('--threads <n>', 'threads of the kernels (default: from affinity and cgroup quota)', positiveInteger)
    .option('--isa <level>', 'ISA level of the kernels (default: the best here)')
    .option('--json <file>', 'write every result as JSON; - is stdout, instead of the table')
    .option('--markdown', 'print the table as markdown')
    .addHelpText('after', help)
    .action((model: string, flags: QualityFlags) => withInterrupt((signal) => benchQuality(model, flags, signal)));
}

const help = `
Perplexity is exp of the mean negative log-likelihood of each token of a window given those before it. Agreement: how
often a variant's most likely next token is the first variant's. KL: the mean divergence, in nats, of the variant's
distribution from the first variant's. Variants are written as for "bench latency"; by default ${defaultVariants.slice(0, 3).join(', ')},
${defaultVariants.slice(3).join(', ')}.

Examples:
  swiftkv bench quality
  swiftkv bench quality DIR --text book.txt --window 1024 --variants plain,plain+weights=int4 --markdown
`;

async function benchQuality(model: string, flags: QualityFlags, signal: AbortSignal): Promise<void> {
  const variants = variantsOf(model, flags.variants ?? defaultVariants);
  const windows = await tokenWindows(model, flags);
  const results: QualityResult[] = [];
  const reference = await load(variants[0]!, flags, signal);
  try {
    const { level: isa, threads } = reference.info();
    const environment = benchEnvironment('bench quality', cpuInfo(), { isa, threads }, { model, ...flags });
    note(describeEnvironment(environment));
    for (const variant of variants) {
      status(`scoring ${variant.name}`);
      const engine = variant === variants[0] ? reference : await load(variant, flags, signal);
      try {
        results.push(await compare(variant, engine, reference, windows, signal));
      } finally {
        if (engine !== reference) await engine.dispose();
      }
    }
    status('');
    const scored = windows.reduce((sum, window) => sum + window.length - 1, 0);
    if (flags.json !== undefined) await writeJson(flags.json, environment, { scoredTokens: scored }, results);
    if (flags.json !== '-') {
      process.stdout.write(`${renderTable(columns(results), results, flags.markdown ?? false)}\n`);
      note(`\n${scored} tokens scored in windows of ${flags.window}`);
    }
  } finally {
    await reference.dispose();
  }
}

async function compare(
  variant: Variant,
  engine: Engine,
  reference: Engine,
  windows: readonly number[][],
  signal: AbortSignal,
): Promise<QualityResult> {
  let sum = emptyAgreement;
  for (const window of windows) {
    const { data, vocabSize } = await engine.logits(window, { signal });
    const expected = engine === reference ? data : (await reference.logits(window, { signal })).data;
    sum = mergeAgreement(sum, agreementOf(data, expected, window, vocabSize));
  }
  const { weightDtypes, activationDtype, kvCacheDtype, bytes } = engine.info();
  return {
    model: variant.model,
    variant: variant.name,
    weights: weightDtypes,
    activations: activationDtype,
    kvCache: kvCacheDtype,
    weightBytes: bytes.weights,
    ...sum,
  };
}

function load(variant: Variant, flags: QualityFlags, signal: AbortSignal): Promise<Engine> {
  const { source, dtype, kvCacheDtype, weightDtype, activationDtype } = variant;
  return Engine.load(resolveModel(source), {
    dtype,
    kvCacheDtype,
    weightDtype,
    activationDtype,
    threads: flags.threads,
    isa: flags.isa,
    maxModelLen: flags.window,
    maxSequences: 1,
    signal,
  });
}

async function tokenWindows(model: string, flags: QualityFlags): Promise<number[][]> {
  const folders = model.startsWith(randomPrefix) ? [] : [(await openCheckpoint(resolveModel(model))).tokenizerDir];
  const tokenizer = await loadTokenizer(folders);
  if (tokenizer === null) {
    throw new SwiftKVError('ERR_NO_TOKENIZER', `${model} has no tokenizer, so text means nothing to it`);
  }
  try {
    const file = flags.text ?? proseFile;
    const text = await readFile(file, 'utf8').catch((cause) => {
      throw new SwiftKVError('ERR_IO', `Reading ${file} failed: ${cause.message}`, { cause });
    });
    const ids = await tokenizer.encode(text);
    const windows: number[][] = [];
    for (let at = 0; at + 2 <= ids.length && windows.length < flags.windows; at += flags.window) {
      windows.push([...ids.slice(at, at + flags.window)]);
    }
    return windows;
  } finally {
    await tokenizer.dispose();
  }
}

function columns(results: readonly QualityResult[]): Column<QualityResult>[] {
  const [first] = results;
  return [
    { title: 'variant', align: 'left', cell: (r) => r.variant },
    { title: 'weights', align: 'left', cell: (r) => r.weights.join('+') },
    { title: 'perplexity', align: 'right', cell: (r) => Math.exp(r.nll).toFixed(3) },
    {
      title: 'change',
      align: 'right',
      cell: (r) => `${((Math.exp(r.nll - first!.nll) - 1) * 100).toFixed(2)}%`,
    },
    { title: 'agreement', align: 'right', cell: (r) => `${(r.agreement * 100).toFixed(2)}%` },
    { title: 'KL', align: 'right', cell: (r) => r.kl.toExponential(2) },
    {
      title: 'weight bytes',
      align: 'right',
      cell: (r) => `${((r.weightBytes / first!.weightBytes) * 100).toFixed(1)}%`,
    },
  ];
}

// Options of `swiftkv train` and `swiftkv distill`, and what they print while they run.

import { type Command, InvalidArgumentError } from 'commander';
import { SwiftKVError } from '../errors.ts';
import { parseDataFile } from '../train/data/index.ts';
import type { RunOptions } from '../train/options.ts';
import { type RunEvent, trainingFolder } from '../train/run.ts';
import { nonNegativeNumber, positiveInteger } from './model-options.ts';
import { formatBytes } from './table.ts';

export interface TrainFlags {
  data: string[];
  out: string;
  steps: number;
  tokensPerBatch?: number;
  accumulation?: number;
  maxLength?: number;
  maxSeqs?: number;
  seed?: number;
  lr?: number;
  schedule?: 'linear' | 'cosine' | 'constant';
  warmup?: number;
  floor?: number;
  beta1?: number;
  beta2?: number;
  weightDecay?: number;
  clip?: number;
  answerWeight?: number;
  contextWeight?: number;
  textWeight?: number;
  dtype?: 'f32' | 'bf16';
  recompute?: boolean;
  evaluationData?: string[];
  evaluateEvery?: number;
  evaluationBatches?: number;
  checkpointEvery?: number;
  checkpointModels?: boolean;
  resume?: boolean;
  threads?: number;
  isa?: string;
  logEvery: number;
}

export function addTrainOptions(command: Command): Command {
  return command
    .option(
      '--data <file...>',
      'training data, .txt or .jsonl ({"text"}, {"prompt", "answer"}, {"messages"} or {"segments"}); FILE=WEIGHT sets its share of the tokens',
    )
    .requiredOption('--out <dir>', 'the folder of the trained model; checkpoints go to DIR-training beside it')
    .option('--steps <n>', 'updates', positiveInteger)
    .option('--tokens-per-batch <n>', 'tokens of a micro-step (default: 4096)', positiveInteger)
    .option('--accumulation <n>', 'micro-steps of an update (default: 1)', positiveInteger)
    .option('--max-length <n>', 'tokens of a sequence at most (default: 1024)', positiveInteger)
    .option('--max-seqs <n>', 'sequences of a micro-step at most (default: 64)', positiveInteger)
    .option('--seed <n>', 'of the order of the data (default: 0)', wholeNumber)
    .option(
      '--warmup <share>',
      'share of the steps in which the learning rate rises (default: 0.05)',
      nonNegativeNumber,
    )
    .option('--schedule <name>', 'linear, cosine or constant', oneOf('linear', 'cosine', 'constant'))
    .option('--floor <share>', 'cosine: share of the learning rate at the end', nonNegativeNumber)
    .option('--beta1 <x>', 'of AdamW (default: 0.9)', nonNegativeNumber)
    .option('--beta2 <x>', 'of AdamW', nonNegativeNumber)
    .option('--weight-decay <x>', 'of AdamW, matrices only', nonNegativeNumber)
    .option('--clip <norm>', 'clip the gradient to this norm (default: 1; Infinity: never)', clipNorm)
    .option('--answer-weight <x>', 'what a token of an answer counts (default: 1)', nonNegativeNumber)
    .option(
      '--context-weight <x>',
      'what other tokens of a document with answers count (default: 0)',
      nonNegativeNumber,
    )
    .option('--text-weight <x>', 'what a token of a plain text counts (default: 1)', nonNegativeNumber)
    .option('--dtype <type>', 'of matrix products: bf16 or f32 (default: bf16)', oneOf('bf16', 'f32'))
    .option('--recompute', 'compute activations again instead of keeping them: less memory, a third more work')
    .option('--evaluation-data <file...>', 'data whose loss is measured as training goes on')
    .option('--evaluate-every <n>', 'updates between evaluations (default: 100)', positiveInteger)
    .option('--evaluation-batches <n>', 'micro-batches of an evaluation (default: 8)', positiveInteger)
    .option('--checkpoint-every <n>', 'updates between checkpoints (default: 100)', positiveInteger)
    .option('--checkpoint-models', 'put a model that can be loaded into each checkpoint')
    .option('--resume', 'go on from the newest checkpoint, if there is one')
    .option('--threads <n>', 'threads of the kernels (default: from affinity and cgroup quota)', positiveInteger)
    .option('--isa <level>', 'ISA level of the kernels (default: the best)')
    .option('--log-every <n>', 'updates between lines of progress', positiveInteger, 10);
}

/** What a run needs and a recipe for another trainer does not. @throws ERR_INVALID_ARGUMENT */
export function requireTrainFlags(flags: TrainFlags): void {
  if (flags.data !== undefined && flags.steps !== undefined) return;
  throw new SwiftKVError('ERR_INVALID_ARGUMENT', 'Expected --data and --steps: what to train on, and how many updates');
}

export function runOptionsOf(flags: TrainFlags, signal: AbortSignal): RunOptions {
  const { data, evaluationData, lr, logEvery: _, ...rest } = flags;
  return {
    ...rest,
    ...(lr !== undefined && { learningRate: lr }),
    data: data.map(parseDataFile),
    evaluationData: evaluationData?.map(parseDataFile),
    signal,
  };
}

/** Prints what happens to stderr, one line each. */
export async function report(events: AsyncIterable<RunEvent>, flags: TrainFlags): Promise<void> {
  const say = (line: string) => process.stderr.write(`${line}\n`);
  for await (const event of events) {
    switch (event.type) {
      case 'data':
        for (const { path, documents, tokens, answerTokens, sha256 } of event.files) {
          say(
            `${path}: ${count(documents)} documents, ${count(tokens)} tokens, ${count(answerTokens)} of answers, ` +
              `sha256 ${sha256.slice(0, 16)}`,
          );
        }
        if (event.leftOut > 0)
          say(`${count(event.leftOut)} documents with answers are longer than --max-length: left out`);
        break;
      case 'start':
        say(
          `${event.step > 0 ? `going on from step ${count(event.step)}: ` : ''}${count(event.trainedParameters)} parameters ` +
            `trained, ${formatBytes(event.bytes)}, ${event.threads} threads, ${event.level}`,
        );
        break;
      case 'step':
        if (event.step % flags.logEvery === 0 || event.step === event.steps) say(stepLine(event));
        break;
      case 'evaluation':
        say(
          `evaluation at step ${event.step}: ${Object.entries(event.values)
            .map(([name, value]) => `${name} ${value.toFixed(4)}`)
            .join(', ')}`,
        );
        break;
      case 'checkpoint':
        say(`wrote ${event.path}`);
        break;
      case 'done':
        say(
          `wrote ${event.out} after ${count(event.step)} steps and ${count(event.tokens)} tokens; ` +
            `checkpoints, loss.csv and loss.svg are in ${trainingFolder(event.out)}`,
        );
    }
  }
}

function stepLine(event: RunEvent & { type: 'step' }): string {
  const { step, steps, loss, logitsLoss, hiddenLoss, gradientNorm, learningRate, tokensPerSecond, eta } = event;
  const parts = hiddenLoss === 0 ? '' : ` (logits ${logitsLoss.toFixed(4)}, hidden ${hiddenLoss.toFixed(4)})`;
  return (
    `step ${step} of ${steps}: loss ${loss.toFixed(4)}${parts}, gradient ${gradientNorm.toPrecision(3)}, ` +
    `lr ${learningRate.toExponential(2)}, ${count(Math.round(tokensPerSecond))} tokens/s, ${duration(eta)} left`
  );
}

function count(n: number): string {
  return n.toLocaleString('en-US');
}

function duration(seconds: number): string {
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

function clipNorm(text: string): number {
  return text === 'Infinity' ? Number.POSITIVE_INFINITY : nonNegativeNumber(text);
}

function wholeNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isSafeInteger(value) || value < 0)
    throw new InvalidArgumentError('Expected 0, 1, 2, ...');
  return value;
}

export function oneOf<T extends string>(...allowed: T[]): (text: string) => T {
  return (text) => {
    if ((allowed as string[]).includes(text)) return text as T;
    throw new InvalidArgumentError(`Expected ${allowed.join(' or ')}.`);
  };
}

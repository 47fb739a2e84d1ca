// The options of `generate` and `chat` that say how an answer is made.

import { type Command, InvalidArgumentError } from 'commander';
import type { FinishPart, GenerateOptions } from '../engine/types.ts';
import { nonNegativeNumber, positiveInteger } from './model-options.ts';
import { formatCount } from './table.ts';

export interface SamplingFlags {
  maxTokens?: number;
  temperature?: number;
  topK?: number;
  topP?: number;
  minP?: number;
  seed?: bigint;
  ignoreEos?: boolean;
}

export function addSamplingOptions(command: Command): Command {
  return command
    .option('-n, --max-tokens <n>', 'tokens to generate at most', positiveInteger)
    .option('-t, --temperature <x>', '0 = always the most likely token', nonNegativeNumber)
    .option('--top-k <n>', 'only the n most likely tokens', positiveInteger)
    .option('--top-p <x>', 'only the most likely tokens that make up this probability', nonNegativeNumber)
    .option('--min-p <x>', 'only tokens at least this fraction as likely as the best', nonNegativeNumber)
    .option('--seed <n>', 'of the random numbers', seedNumber)
    .option('--ignore-eos', "go on after the model's end of text");
}

/** What the engine takes of them. */
export function samplingOf(flags: SamplingFlags): GenerateOptions {
  const { maxTokens, temperature, topK, topP, minP, seed, ignoreEos } = flags;
  return { maxTokens, temperature, topK, topP, minP, seed, ignoreEos };
}

/** What an answer took, in two lines. */
export function describeAnswer({
  usage,
  timings,
  finishReason,
}: Pick<FinishPart, 'usage' | 'timings' | 'finishReason'>) {
  const skipped = usage.rowLayersSkipped / (usage.rowLayersRun + usage.rowLayersSkipped);
  const tpot = timings.tpotMs === null ? '' : `, ${timings.tpotMs.toFixed(1)} ms per token after it`;
  return (
    `${formatCount(usage.promptTokens)} prompt tokens, ${formatCount(usage.completionTokens)} generated (${finishReason}); ` +
    `first token after ${timings.ttftMs.toFixed(1)} ms${tpot}\n` +
    `rows x layers: ${formatCount(usage.rowLayersRun)} run, ${formatCount(usage.rowLayersSkipped)} skipped ` +
    `(${(skipped * 100).toFixed(1)}%)\n`
  );
}

function seedNumber(text: string): bigint {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('Expected an integer >= 0.');
  return BigInt(text);
}

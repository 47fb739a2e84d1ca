// The options of `generate` and `chat` that say how an answer is made.

import { type Command, InvalidArgumentError } from 'commander';
import type { FinishPart, GenerateOptions } from '../engine/types.ts';
import { nonNegativeNumber, positiveInteger } from './model-options.ts';
import { formatCount } from './table.ts';

/** As the engine takes them, but for the lists that the command line gathers. */
export interface SamplingFlags
  extends Pick<
    GenerateOptions,
    | 'maxTokens'
    | 'temperature'
    | 'topK'
    | 'topP'
    | 'minP'
    | 'seed'
    | 'repetitionPenalty'
    | 'presencePenalty'
    | 'frequencyPenalty'
    | 'minTokens'
    | 'ignoreEos'
    | 'includeStop'
    | 'stopTokenIds'
  > {
  stop?: string[];
  logitBias?: Map<number, number>;
}

export function addSamplingOptions(command: Command): Command {
  return command
    .option('-n, --max-tokens <n>', 'tokens to generate at most', positiveInteger)
    .option('-t, --temperature <x>', '0 = always the most likely token', nonNegativeNumber)
    .option('--top-k <n>', 'only the n most likely tokens', positiveInteger)
    .option('--top-p <x>', 'only the most likely tokens that make up this probability', nonNegativeNumber)
    .option('--min-p <x>', 'only tokens at least this fraction as likely as the best', nonNegativeNumber)
    .option('--seed <n>', 'of the random numbers', seedNumber)
    .option('--repetition-penalty <x>', 'above 1: tokens of prompt and answer become less likely', nonNegativeNumber)
    .option('--presence-penalty <x>', 'off the logits of tokens that the answer has', finiteNumber)
    .option('--frequency-penalty <x>', 'the same, once for each time the answer has them', finiteNumber)
    .option('--logit-bias <id=x>', 'added to the logit of a token, e.g. 13=-2, 13=-Infinity; repeatable', gatherBias)
    .option('--stop <text>', 'text that ends the answer; repeatable', gatherText)
    .option('--include-stop', 'print the stop text that ended it')
    .option('--stop-token-ids <ids>', 'tokens that end the answer, too, e.g. 13,198', tokenIdList)
    .option('--min-tokens <n>', 'no end before so many tokens', positiveInteger)
    .option('--ignore-eos', "go on after the model's end of text");
}

/** What the engine takes of them. */
export function samplingOf(flags: SamplingFlags): GenerateOptions {
  const { maxTokens, temperature, topK, topP, minP, seed, stop, includeStop, stopTokenIds, minTokens, ignoreEos } =
    flags;
  const { repetitionPenalty, presencePenalty, frequencyPenalty, logitBias } = flags;
  return {
    ...{ maxTokens, temperature, topK, topP, minP, seed },
    ...{ repetitionPenalty, presencePenalty, frequencyPenalty, logitBias },
    ...{ stop, includeStop, stopTokenIds, minTokens, ignoreEos },
  };
}

/** What an answer took, in two lines. */
export function describeAnswer({
  usage,
  timings,
  finishReason,
}: Pick<FinishPart, 'usage' | 'timings' | 'finishReason'>) {
  const skipped = usage.rowLayersSkipped / (usage.rowLayersRun + usage.rowLayersSkipped);
  const tpot = timings.tpotMs === null ? '' : `, ${timings.tpotMs.toFixed(1)} ms per token after it`;
  const cached = usage.cachedTokens === 0 ? '' : ` (${formatCount(usage.cachedTokens)} cached)`;
  return (
    `${formatCount(usage.promptTokens)} prompt tokens${cached}, ${formatCount(usage.completionTokens)} generated (${finishReason}); ` +
    `first token after ${timings.ttftMs.toFixed(1)} ms${tpot}\n` +
    `rows x layers: ${formatCount(usage.rowLayersRun)} run, ${formatCount(usage.rowLayersSkipped)} skipped ` +
    `(${(skipped * 100).toFixed(1)}%)\n`
  );
}

export function tokenIdList(text: string): number[] {
  const parts = text.split(/[\s,]+/).filter((part) => part !== '');
  if (parts.length === 0 || !parts.every((part) => /^\d+$/.test(part))) {
    throw new InvalidArgumentError('Expected token ids separated by commas, e.g. 1,15043,3186.');
  }
  return parts.map(Number);
}

function gatherText(text: string, before: string[] = []): string[] {
  return [...before, text];
}

function gatherBias(text: string, before: Map<number, number> = new Map()): Map<number, number> {
  const [, id, bias] = /^(\d+)=(-Infinity|[-+]?[\d.]+(?:e[-+]?\d+)?)$/i.exec(text) ?? [];
  if (id === undefined || Number.isNaN(Number(bias))) {
    throw new InvalidArgumentError('Expected a token id, =, and a number or -Infinity, e.g. 13=-2.');
  }
  return new Map(before).set(Number(id), Number(bias));
}

function finiteNumber(text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('Expected a number.');
  return value;
}

function seedNumber(text: string): bigint {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError('Expected an integer >= 0.');
  return BigInt(text);
}

// swiftkv generate: one prompt in, text out as it comes.

import { readFile } from 'node:fs/promises';
import { text as readAll } from 'node:stream/consumers';
import { Command, InvalidArgumentError } from 'commander';
import type { Engine } from '../engine/engine.ts';
import { maxAnswers } from '../engine/generate-options.ts';
import type { FinishPart, GenerateOptions } from '../engine/types.ts';
import { SwiftKVError } from '../errors.ts';
import { withTrace } from '../trace/chrome-trace.ts';
import { withInterrupt } from './exit.ts';
import { addModelOptions, loadEngine, type ModelFlags, modelArgument } from './model-options.ts';
import { addSamplingOptions, describeAnswer, type SamplingFlags, samplingOf, tokenIdList } from './sampling-options.ts';

interface GenerateFlags extends ModelFlags, SamplingFlags {
  prompt?: string;
  promptFile?: string;
  tokenIds?: number[];
  chat?: string;
  system?: string;
  answers?: number;
  fullDepth?: boolean;
  logprobs?: number;
  promptLogprobs?: number;
  json?: boolean;
  stats?: boolean;
  trace?: string;
}

export function generateCommand(): Command {
  const command = new Command('generate')
    .description('continue a prompt, or answer a message; the prompt comes from stdin when no option gives it')
    .argument('<model>', modelArgument)
    .option('-p, --prompt <text>', 'the prompt')
    .option('-f, --prompt-file <file>', 'a file with the prompt')
    .option('--token-ids <ids>', 'the prompt as token ids, e.g. 1,15043,3186', tokenIdList)
    .option('-c, --chat <text>', "a user's message, rendered with the model's chat template")
    .option('--system <text>', 'a system message before --chat');
  addSamplingOptions(command)
    .option('--answers <n>', 'so many answers, each printed when all have ended', answerCount)
    .option('--full-depth', 'run every layer on every prompt token')
    .option('--logprobs <n>', 'with --json: log-probabilities of the answer and of the n likeliest tokens', topTokens)
    .option('--prompt-logprobs <n>', 'the same for the prompt', topTokens)
    .option('--json', 'print one JSON object instead of text')
    .option('--stats', 'print counts and timings to stderr')
    .option('--trace <file>', 'write a Chrome trace of the steps and the request, for https://ui.perfetto.dev');
  return addModelOptions(command).action((model: string, flags: GenerateFlags) =>
    withInterrupt((signal) => withTrace(flags.trace, () => generate(model, flags, signal))),
  );
}

async function generate(model: string, flags: GenerateFlags, signal: AbortSignal): Promise<void> {
  if ((flags.logprobs !== undefined || flags.promptLogprobs !== undefined) && !flags.json) {
    throw new SwiftKVError('ERR_INVALID_ARGUMENT', 'Expected --json beside --logprobs and --prompt-logprobs.');
  }
  const input = await promptOf(flags);
  const engine = await loadEngine(model, flags, signal);
  try {
    const request: GenerateOptions = {
      ...input,
      ...samplingOf(flags),
      n: flags.answers,
      fullDepth: flags.fullDepth,
      logprobs: flags.logprobs,
      promptLogprobs: flags.promptLogprobs,
      signal,
    };
    if (flags.json) {
      const results = await engine.generate(request).results();
      const printed = flags.answers === undefined ? results[0] : results;
      process.stdout.write(`${JSON.stringify(printed, (_, v) => (typeof v === 'bigint' ? v.toString() : v))}\n`);
      if (flags.stats) results.forEach(printStats);
    } else if (flags.answers !== undefined) {
      await printAll(engine, request, flags.stats ?? false);
    } else {
      await stream(engine, request, flags.stats ?? false);
    }
  } finally {
    await engine.dispose();
  }
}

/** Text to stdout as it comes; ids instead where the model has no tokenizer. */
async function stream(engine: Engine, request: GenerateOptions, stats: boolean): Promise<void> {
  const asText = engine.info().tokenizer;
  let last = '';
  for await (const part of engine.generate(request)) {
    if (part.type === 'text') {
      const chunk = asText ? part.text : part.tokenIds.map((id) => `${id} `).join('');
      process.stdout.write(chunk);
      if (chunk !== '') last = chunk;
    } else {
      if (!last.endsWith('\n')) process.stdout.write('\n');
      if (stats) printStats(part);
    }
  }
}

/** Several answers at once would mix on a terminal: each is printed whole, under its number. */
async function printAll(engine: Engine, request: GenerateOptions, stats: boolean): Promise<void> {
  const asText = engine.info().tokenizer;
  for (const result of await engine.generate(request).results()) {
    const text = asText ? result.text : result.tokenIds.join(' ');
    process.stdout.write(`[${result.index}] ${text}${text.endsWith('\n') ? '' : '\n'}`);
    if (stats) printStats(result);
  }
}

function printStats(part: Pick<FinishPart, 'usage' | 'timings' | 'finishReason'>): void {
  process.stderr.write(describeAnswer(part));
}

async function promptOf(flags: GenerateFlags): Promise<Pick<GenerateOptions, 'prompt' | 'messages' | 'tokenIds'>> {
  const given = (['prompt', 'promptFile', 'tokenIds', 'chat'] as const).filter((name) => flags[name] !== undefined);
  if (given.length > 1) {
    throw new SwiftKVError('ERR_INVALID_ARGUMENT', 'Expected one of --prompt, --prompt-file, --token-ids and --chat.');
  }
  if (flags.system !== undefined && flags.chat === undefined) {
    throw new SwiftKVError('ERR_INVALID_ARGUMENT', 'Expected --chat beside --system.');
  }
  if (flags.chat !== undefined) {
    const system = flags.system === undefined ? [] : [{ role: 'system', content: flags.system }];
    return { messages: [...system, { role: 'user', content: flags.chat }] };
  }
  if (flags.tokenIds !== undefined) return { tokenIds: flags.tokenIds };
  if (flags.prompt !== undefined) return { prompt: flags.prompt };
  if (flags.promptFile !== undefined) return { prompt: await readPrompt(flags.promptFile) };
  if (process.stdin.isTTY) {
    throw new SwiftKVError(
      'ERR_INVALID_ARGUMENT',
      'Expected a prompt: give --prompt, --prompt-file, --token-ids or --chat, or pipe it to stdin.',
    );
  }
  return { prompt: await readAll(process.stdin) };
}

export async function readPrompt(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new SwiftKVError('ERR_IO', `Reading ${file} failed: ${(error as Error).message}`, { cause: error });
  }
}

function answerCount(text: string): number {
  if (!/^\d+$/.test(text) || Number(text) < 1 || Number(text) > maxAnswers) {
    throw new InvalidArgumentError(`Expected an integer from 1 to ${maxAnswers}.`);
  }
  return Number(text);
}

function topTokens(text: string): number {
  if (!/^\d+$/.test(text) || Number(text) > 20) throw new InvalidArgumentError('Expected an integer from 0 to 20.');
  return Number(text);
}

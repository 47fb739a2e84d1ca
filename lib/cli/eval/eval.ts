// swiftkv eval: how good a model's answers are. What one change costs is seen by giving several models and caches at once.

import { Command, Option } from 'commander';
import { SwiftKVError } from '../../errors.ts';
import { type ChoiceFormat, choiceFormats } from '../../eval/choices.ts';
import { defaultInFlight } from '../../eval/perplexity.ts';
import { windowDefaults } from '../../eval/windows.ts';
import { version } from '../../version.ts';
import { choiceList } from '../bench/options.ts';
import { note } from '../bench/output.ts';
import { withInterrupt } from '../exit.ts';
import {
  addModelOptions,
  type KvDType,
  kvDTypes,
  type ModelFlags,
  modelArgument,
  positiveInteger,
} from '../model-options.ts';
import { evaluateModels } from './evaluate.ts';
import { formatJson } from './json.ts';
import { pairRows } from './pair.ts';
import { readPairedFiles } from './pair-files.ts';
import { printPaired, printResults } from './report.ts';
import { dataDigests, prepareTasks } from './tasks.ts';

export interface EvalFlags extends Omit<ModelFlags, 'kvDtype'> {
  kvDtype?: KvDType[];
  perplexity?: string;
  window: number;
  stride?: number;
  separator: string;
  exact?: string;
  by: string;
  choices?: string;
  format: ChoiceFormat;
  shots?: number;
  shotsFile?: string;
  agree?: string;
  every?: number;
  limit?: number;
  inFlight: number;
  pair?: boolean;
  json?: boolean;
  markdown?: boolean;
}

export function evalCommand(): Command {
  const command = new Command('eval')
    .description('measure perplexity, exact answers, choices and agreement of models, side by side')
    .argument('<models...>', `${modelArgument}; with --pair, files of --json`)
    .option('--perplexity <file>', 'UTF-8 text to score in windows')
    .option('--window <n>', 'tokens of a window', positiveInteger, windowDefaults.window)
    .option('--stride <n>', "tokens from one window's start to the next (default: the window)", positiveInteger)
    .option('--separator <line>', 'line of the text that parts documents', windowDefaults.separator)
    .option('--exact <file>', 'JSONL of {prompt, answer, stop?} to answer greedily')
    .option('--by <field>', 'field of these items to group by', 'length')
    .option('--choices <file>', 'JSONL of {question, choices, answer} to score')
    .addOption(new Option('--format <name>', 'how a question becomes a prompt').choices(choiceFormats).default('qa'))
    .option('--shots <k>', 'items with their answers before each question', positiveInteger)
    .option('--shots-file <file>', 'where they come from (default: the file of --choices, but for the item itself)')
    .option('--agree <model>', 'model to compare with over the windows of --perplexity')
    .option('--every <n>', 'only every n-th window and item, from the first', positiveInteger)
    .option('--limit <n>', 'only so many windows and items', positiveInteger)
    .option('--in-flight <n>', 'requests at a time; changes no figure', positiveInteger, defaultInFlight)
    .addOption(new Option('--json', 'print one JSON object instead of the table').conflicts('markdown'))
    .option('--markdown', 'print the table as markdown')
    .addHelpText('after', help);
  const kvDtypes = new Option('--kv-dtype <list>', 'KV caches to try, e.g. bf16,fp8 (default: as --dtype)');
  addModelOptions(command, kvDtypes.argParser(choiceList(kvDTypes)));
  // What was measured is in the files.
  const measuring = command.options.map((option) => option.attributeName());
  const pair = new Option('--pair', 'compare the rows of files that --json wrote; runs no model').conflicts(
    measuring.filter((name) => name !== 'json' && name !== 'markdown'),
  );
  return command
    .addOption(pair)
    .action((models: string[], flags: EvalFlags) =>
      flags.pair ? pairFiles(models, flags) : withInterrupt((signal) => evaluate(models, flags, signal)),
    );
}

const help = `
Every model runs with every cache of --kv-dtype; ± is one standard error: over windows, or of a share of items.

perplexity   exp of the mean negative log-likelihood of a token, given those before it in its window. With the default
             stride every token but a window's first counts; with a smaller one a token counts once, in the first
             window that has it.
exact        right if the text up to the item's stop, a new line or the model's own end is the answer, white space
             around it aside. Grouped by the field "length", or else by the prompt's tokens.
choices      right if the choice of the highest log-likelihood is the answer's: as it is (plain), divided by its tokens,
             and by its UTF-8 bytes. "answer" is an index from 0 or a choice.
             qa: "Question: Q", new line, "Answer: C"; plain: "Q C". Shots stand before it, a blank line between.
agree        how often the most likely next token is the other model's, and KL(other || model) in nats. The other model
             takes the same options and the first cache of --kv-dtype.

A second table has each row's difference from the first, judged on pairs, the items that both answer and the windows that
both score: perplexity in % of the first row's, exact and choices in points (Tango's score interval), [low, high] of 95%.
The intervals are narrower than two ± suggest: both find the same items hard. --json has them by group, and item by item;
--pair makes the same table of such files, whose rows are all compared with the first row of the first file. They must be
of the same items and settings; models, caches and machines may differ.

FILE may be embedded:heldout (text) or embedded:recall (600 items for --exact): what the embedded models are judged on.

Examples:
  swiftkv eval embedded:base embedded:swiftkv-50 --perplexity embedded:heldout --exact embedded:recall --every 3
  swiftkv eval DIR --kv-dtype bf16,fp8 --perplexity book.txt --window 2048 --agree embedded:base --markdown
  swiftkv eval DIR --choices quiz.jsonl --shots 5 --json > before.json; ...; swiftkv eval --pair before.json after.json
`;

async function evaluate(models: string[], flags: EvalFlags, signal: AbortSignal): Promise<void> {
  if (flags.perplexity === undefined && flags.exact === undefined && flags.choices === undefined) {
    throw new SwiftKVError('ERR_INVALID_ARGUMENT', 'Expected at least one of --perplexity, --exact and --choices.');
  }
  if (flags.agree !== undefined && flags.perplexity === undefined) {
    throw new SwiftKVError('ERR_INVALID_ARGUMENT', 'Expected --perplexity with a text beside --agree.');
  }
  if (flags.shotsFile !== undefined && flags.shots === undefined) {
    throw new SwiftKVError('ERR_INVALID_ARGUMENT', 'Expected --shots with a number beside --shots-file.');
  }
  const tasks = await prepareTasks(flags);
  const results = await evaluateModels(models, tasks, flags, signal);
  const paired = results.length > 1 ? pairRows(results) : undefined;
  if (flags.json) {
    const { json: _, markdown: __, ...settings } = flags;
    const body = { swiftkv: version, settings, data: dataDigests(tasks), results, paired };
    process.stdout.write(`${formatJson(body)}\n`);
    return;
  }
  printResults(results, flags.markdown ?? false);
  if (paired !== undefined) {
    process.stdout.write('\n');
    printPaired(paired, flags.markdown ?? false);
  }
}

async function pairFiles(files: readonly string[], flags: EvalFlags): Promise<void> {
  const { rows, left } = await readPairedFiles(files);
  const paired = pairRows(rows);
  if (flags.json) process.stdout.write(`${formatJson({ swiftkv: version, files, paired })}\n`);
  else printPaired(paired, flags.markdown ?? false);
  if (left.length > 0) note(`not in every file, so not compared: ${left.join(', ')}`);
}

// npm start: a long document, questions about it, and the same answers from the plain model, from SwiftKV, from SwiftKV
// with an fp8 cache and from 4-way AcrossKV, side by side.

import { readFile } from 'node:fs/promises';
import { Command } from 'commander';
import { Engine } from '../engine/engine.ts';
import { SwiftKVError } from '../errors.ts';
import { proseFile, resolveModel } from '../model/embedded.ts';
import { type Answer, compare, type Variant } from './demo/compare.ts';
import { type DemoDocument, makeDocument } from './demo/document.ts';
import { printAnswers, printSummary } from './demo/report.ts';
import { exitOnClosedPipe, reportError, withInterrupt } from './exit.ts';
import { readPrompt } from './generate.ts';
import { positiveInteger } from './model-options.ts';
import { seededRandom } from './random.ts';

const variants: Variant[] = [
  { name: 'base', model: 'embedded:base', kvCacheDtype: 'bf16' },
  { name: 'SwiftKV 50%', model: 'embedded:swiftkv-50', kvCacheDtype: 'bf16' },
  { name: 'SwiftKV 50%, fp8 cache', model: 'embedded:swiftkv-50', kvCacheDtype: 'fp8' },
  { name: 'SwiftKV 50%, 4-way AcrossKV', model: 'embedded:swiftkv-50-g4', kvCacheDtype: 'bf16' },
];

/** About 900 tokens of the embedded vocabulary, the chat template's frame and a question included. */
const documentCharacters = 3150;

interface DemoFlags {
  document?: string;
  question?: string[];
  seed?: number;
}

const command = new Command('npm start --')
  .description('ask the embedded models about a long document, and show what SwiftKV skipped')
  .option('--document <file>', 'your own document instead of a made-up one')
  .option('--question <text...>', 'what to ask about it')
  .option('--seed <n>', 'of the made-up document (default: fresh)', positiveInteger)
  .exitOverride()
  .action((flags: DemoFlags) => withInterrupt((signal) => demo(flags, signal)));

async function demo(flags: DemoFlags, signal: AbortSignal): Promise<void> {
  const document = await documentOf(flags);
  const results: { variant: Variant; answers: Answer[]; kvBytesPerToken: number }[] = [];
  for (const variant of variants) {
    const engine = await Engine.load(resolveModel(variant.model), {
      kvCacheDtype: variant.kvCacheDtype,
      prefixCaching: false, // the same document is read several times
      signal,
    });
    try {
      const answers = await compare(engine, document, signal);
      results.push({ variant, answers, kvBytesPerToken: engine.info().kvBytesPerToken });
    } finally {
      await engine.dispose();
    }
  }
  printAnswers(document, results);
  printSummary(results);
}

async function documentOf(flags: DemoFlags): Promise<DemoDocument> {
  if (flags.document !== undefined) {
    if (flags.question === undefined) {
      throw new SwiftKVError('ERR_INVALID_ARGUMENT', 'Expected --question beside --document.');
    }
    const text = await readPrompt(flags.document);
    return { text, questions: flags.question.map((question) => ({ question, expected: null })) };
  }
  const seed = flags.seed ?? 1 + Math.floor(Math.random() * 999_999);
  const prose = (await readFile(proseFile, 'utf8')).split('\n').filter((line) => line !== '');
  const document = makeDocument(seededRandom(seed), prose, documentCharacters);
  process.stdout.write(`A made-up letter, seed ${seed} (the same again: npm start -- --seed ${seed}):\n\n`);
  process.stdout.write(`${excerpt(document.text)}\n\n`);
  if (flags.question === undefined) return document;
  return { text: document.text, questions: flags.question.map((question) => ({ question, expected: null })) };
}

function excerpt(text: string): string {
  const [head, tail] = [text.slice(0, 240), text.slice(-120)];
  return `${head} [... ${text.length - 360} characters ...] ${tail}`.replace(/^/gm, '  ');
}

exitOnClosedPipe();
try {
  await command.parseAsync();
} catch (error) {
  process.exitCode = reportError(error);
}

// Runs the tasks on every model with every cache, one engine after the other.

import type { Engine } from '../../engine/engine.ts';
import type { EngineInfo } from '../../engine/types.ts';
import { SwiftKVError } from '../../errors.ts';
import { type Agreement, type AgreementEstimate, agreementEstimate, compareWindows } from '../../eval/agreement.ts';
import { type ChoiceResult, type Choices, choicesOf, chooseItems, type Normalisation } from '../../eval/choices.ts';
import { answerItems, type ExactMatch, exactMatchOf, groupOf } from '../../eval/exact-match.ts';
import { subsetOf } from '../../eval/in-order.ts';
import { type Perplexity, perplexityOf, type ScoredWindow, scoreWindows } from '../../eval/perplexity.ts';
import { textWindows, type Window } from '../../eval/windows.ts';
import { status } from '../bench/output.ts';
import { type KvDType, loadEngine } from '../model-options.ts';
import type { EvalFlags } from './eval.ts';
import { digest, type Tasks } from './tasks.ts';

export interface EvalResult {
  /** As it was asked for. */
  model: string;
  kvCache: EngineInfo['kvCacheDtype'];
  kvBytesPerToken: number;
  weights: string[];
  level: string;
  threads: number;
  /** The digest is of the windows' tokens: another tokenizer makes other windows. */
  perplexity?: Perplexity & { tokenDigest: string; perWindow: ScoredWindow[] };
  exact?: ExactMatch & { perItem: ExactRecord[] };
  choices?: Choices & { perItem: ChoiceRecord[] };
  agreement?: AgreementEstimate & { with: string; perWindow: Agreement[] };
}

export interface ExactRecord {
  id: string;
  group: string;
  correct: boolean;
  /** What the model said. */
  text: string;
}

/** Whether each way to choose was right. */
export interface ChoiceRecord extends Record<Normalisation, boolean> {
  id: string;
  logLikelihoods: number[];
}

export async function evaluateModels(
  models: readonly string[],
  tasks: Tasks,
  flags: EvalFlags,
  signal: AbortSignal,
): Promise<EvalResult[]> {
  const kvDtypes = flags.kvDtype ?? [undefined];
  const load = (model: string, kvDtype: KvDType | undefined) => loadEngine(model, { ...flags, kvDtype }, signal);
  const reference = flags.agree === undefined ? null : await load(flags.agree, kvDtypes[0]);
  const results: EvalResult[] = [];
  try {
    for (const model of models) {
      for (const kvDtype of kvDtypes) {
        const engine = await load(model, kvDtype);
        try {
          results.push(await evaluateEngine(model, engine, reference, tasks, flags, signal));
        } finally {
          await engine.dispose();
        }
      }
    }
  } finally {
    status('');
    await reference?.dispose();
  }
  return results;
}

async function evaluateEngine(
  model: string,
  engine: Engine,
  reference: Engine | null,
  tasks: Tasks,
  flags: EvalFlags,
  signal: AbortSignal,
): Promise<EvalResult> {
  const { kvCacheDtype, kvBytesPerToken, weightDtypes, level, threads } = engine.info();
  const result: EvalResult = { model, kvCache: kvCacheDtype, kvBytesPerToken, weights: weightDtypes, level, threads };
  const run = { inFlight: flags.inFlight, signal };
  const label = `${model}, ${kvCacheDtype} cache:`;
  if (tasks.text !== null) {
    const windows = await windowsFor(engine, tasks.text, flags);
    const perWindow = await collect(scoreWindows(engine, windows, run), `${label} window`, windows.length);
    const tokenDigest = digest(windows.map(({ tokenIds }) => tokenIds));
    result.perplexity = { ...perplexityOf(perWindow), tokenDigest, perWindow };
    if (reference !== null) {
      await requireSameTokens(reference, tasks.text, windows, flags);
      const compared = await collect(
        compareWindows(engine, reference, windows, run),
        `${label} agreement, window`,
        windows.length,
      );
      result.agreement = { with: flags.agree!, ...agreementEstimate(compared), perWindow: compared };
    }
  }
  if (tasks.exact !== null) {
    const answers = await collect(answerItems(engine, tasks.exact, run), `${label} answer`, tasks.exact.length);
    const perItem = answers.map((answer) => ({
      id: answer.item.id,
      group: groupOf(answer, flags.by),
      correct: answer.right,
      text: answer.text,
    }));
    result.exact = { ...exactMatchOf(answers, flags.by), perItem };
  }
  if (tasks.choices !== null) {
    const { items, shots } = tasks.choices;
    const options = { ...run, format: flags.format, shots, numShots: flags.shots ?? 0 };
    const chosen = await collect(chooseItems(engine, items, options), `${label} choice`, items.length);
    result.choices = { ...choicesOf(chosen), perItem: chosen.map(choiceRecord) };
  }
  return result;
}

function choiceRecord({ item, scores, picks }: ChoiceResult): ChoiceRecord {
  return {
    id: item.id,
    plain: picks.plain === item.answer,
    perToken: picks.perToken === item.answer,
    perByte: picks.perByte === item.answer,
    logLikelihoods: scores.map(({ logLikelihood }) => logLikelihood),
  };
}

/** The windows of the text for this model: another tokenizer makes other ones. */
async function windowsFor(engine: Engine, text: string, flags: EvalFlags): Promise<Window[]> {
  const { maxModelLen } = engine.info();
  if (flags.window > maxModelLen) {
    throw new SwiftKVError(
      'ERR_INVALID_ARGUMENT',
      `Expected at most ${maxModelLen} (maxModelLen) for --window but received ${flags.window}`,
    );
  }
  const maxWindows = flags.limit === undefined ? undefined : flags.limit * (flags.every ?? 1);
  const windows = subsetOf(await textWindows(engine, text, { ...flags, maxWindows }), flags);
  if (windows.length === 0) {
    throw new SwiftKVError('ERR_INVALID_ARGUMENT', `${flags.perplexity} has no two tokens to score`);
  }
  return windows;
}

async function requireSameTokens(reference: Engine, text: string, windows: readonly Window[], flags: EvalFlags) {
  const others = await windowsFor(reference, text, flags);
  const same = (a: Window, b: Window | undefined) => a.tokenIds.join() === b?.tokenIds.join();
  if (others.length === windows.length && windows.every((window, i) => same(window, others[i]))) return;
  throw new SwiftKVError(
    'ERR_INVALID_ARGUMENT',
    `Expected the tokens of ${flags.agree} for the text of --perplexity but this model's tokenizer gives others, so ` +
      'their distributions cannot be compared',
  );
}

async function collect<Result>(results: AsyncIterable<Result>, label: string, total: number): Promise<Result[]> {
  const collected: Result[] = [];
  status(`${label} 0 of ${total}`);
  for await (const result of results) {
    collected.push(result);
    status(`${label} ${collected.length} of ${total}`);
  }
  return collected;
}

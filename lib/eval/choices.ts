// Multiple choice: which of an item's choices a model finds most likely, by log-likelihood.

import type { Engine } from '../engine/engine.ts';
import { gather, inOrder } from './in-order.ts';
import { atItem, readJsonLines, type Sourced, stringField, wrongItem } from './json-lines.ts';
import { defaultInFlight, type EvalRun } from './perplexity.ts';
import { scoreTokens } from './score-tokens.ts';
import { proportion } from './statistics.ts';

export interface ChoiceItem extends Sourced {
  question: string;
  choices: readonly string[];
  /** Index of the right choice. */
  answer: number;
}

export const choiceFormats = ['qa', 'plain'] as const;
/** qa: `Question: Q\nAnswer: C`; plain: the question as it is, a space, the choice. */
export type ChoiceFormat = (typeof choiceFormats)[number];

export interface ChoiceRun extends EvalRun {
  /** Default qa. */
  format?: ChoiceFormat | undefined;
  /** Items with their right answers before each question; the item itself is left out. */
  shots?: readonly ChoiceItem[] | undefined;
  /** How many of `shots`, from the first on; default: all. */
  numShots?: number | undefined;
}

/** The three ways to say which choice is the most likely: as it is, and by length. */
export const normalisations = ['plain', 'perToken', 'perByte'] as const;
export type Normalisation = (typeof normalisations)[number];

export interface ChoiceResult {
  item: ChoiceItem;
  /** Of each choice: log-likelihood, nats, and tokens that were scored. */
  scores: { logLikelihood: number; tokens: number }[];
  /** The choice that each way takes; the first of equals. */
  picks: Record<Normalisation, number>;
}

/**
 * JSONL of { question, choices, answer }: the answer is the index of a choice, from 0, or its text.
 * @throws ERR_IO, ERR_INVALID_ARGUMENT with file and line
 */
export function readChoiceItems(file: string): Promise<ChoiceItem[]> {
  return readJsonLines(file, (fields, source) => {
    const { where } = source;
    const question = stringField(fields, 'question', where);
    const { choices, answer } = fields;
    const isText = (choice: unknown) => typeof choice === 'string' && choice.trim() !== '';
    if (!Array.isArray(choices) || choices.length < 2 || !choices.every(isText)) {
      throw wrongItem(where, 'choices to be two or more non-empty strings', choices);
    }
    const index = typeof answer === 'string' ? choices.indexOf(answer) : answer;
    if (!Number.isInteger(index) || (index as number) < 0 || (index as number) >= choices.length) {
      throw wrongItem(where, `answer to be 0 to ${choices.length - 1} or one of the choices`, answer);
    }
    return { question, choices, answer: index as number, ...source };
  });
}

/** Of one item. */
const choicesInFlight = 4;

/** Scores items, and yields the results in order. @throws as scoreTokens, with file and line */
export function chooseItems(
  engine: Engine,
  items: readonly ChoiceItem[],
  { inFlight = defaultInFlight, signal, ...prompt }: ChoiceRun = {},
): AsyncGenerator<ChoiceResult> {
  const choose = async (item: ChoiceItem, stop: AbortSignal): Promise<ChoiceResult> => {
    try {
      const context = contextOf(item, prompt);
      const ids = await engine.tokenize(context);
      const score = async (choice: string, stopOne: AbortSignal) => {
        const whole = await engine.tokenize(`${context} ${choice}`);
        // A token across the seam belongs to the choice.
        const from = Math.max(1, commonPrefix(ids, whole));
        const scores = (await scoreTokens(engine, whole, stopOne)).subarray(from - 1);
        return { logLikelihood: scores.reduce((total, x) => total + x, 0), tokens: scores.length };
      };
      const scores = await gather(inOrder(item.choices, choicesInFlight, score, stop));
      return { item, scores, picks: picksOf(item.choices, scores) };
    } catch (error) {
      throw atItem(error, item);
    }
  };
  return inOrder(items, Math.ceil(inFlight / choicesInFlight), choose, signal);
}

export type Choices = Record<Normalisation, ReturnType<typeof proportion>>;

export function choicesOf(results: readonly ChoiceResult[]): Choices {
  const share = (way: Normalisation) =>
    proportion(results.filter(({ item, picks }) => picks[way] === item.answer).length, results.length);
  return { plain: share('plain'), perToken: share('perToken'), perByte: share('perByte') };
}

/** What stands before a choice; the choice follows after one space. */
export function contextOf(
  item: ChoiceItem,
  { format = 'qa', shots = [], numShots = shots.length }: Pick<ChoiceRun, 'format' | 'shots' | 'numShots'>,
): string {
  const ask = ({ question }: ChoiceItem) => (format === 'qa' ? `Question: ${question}\nAnswer:` : question);
  const others = shots.filter((shot) => shot.where !== item.where).slice(0, numShots);
  return [...others.map((shot) => `${ask(shot)} ${shot.choices[shot.answer]}`), ask(item)].join('\n\n');
}

export function picksOf(choices: readonly string[], scores: ChoiceResult['scores']): ChoiceResult['picks'] {
  const best = (values: readonly number[]) => values.indexOf(Math.max(...values));
  return {
    plain: best(scores.map(({ logLikelihood }) => logLikelihood)),
    perToken: best(scores.map(({ logLikelihood, tokens }) => logLikelihood / tokens)),
    perByte: best(scores.map(({ logLikelihood }, i) => logLikelihood / Buffer.byteLength(choices[i]!))),
  };
}

function commonPrefix(a: readonly number[], b: readonly number[]): number {
  let i = 0;
  while (i < a.length && i < b.length - 1 && a[i] === b[i]) i++;
  return i;
}

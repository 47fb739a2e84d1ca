// The files of an evaluation, read and checked before any model is loaded.

import { createHash } from 'node:crypto';
import { SwiftKVError } from '../../errors.ts';
import { type ChoiceItem, readChoiceItems } from '../../eval/choices.ts';
import { type ExactItem, readExactItems } from '../../eval/exact-match.ts';
import { subsetOf } from '../../eval/in-order.ts';
import { readText } from '../../eval/json-lines.ts';
import { resolveData } from '../../model/embedded.ts';
import type { EvalFlags } from './eval.ts';

export interface Tasks {
  text: string | null;
  exact: ExactItem[] | null;
  choices: { items: ChoiceItem[]; shots: ChoiceItem[] } | null;
}

/** Of what each measure is taken, as a digest: equal ones are of the same text and items, wherever the files are. */
export type DataDigests = Partial<Record<'perplexity' | 'exact' | 'choices', string>>;

export function dataDigests({ text, exact, choices }: Tasks): DataDigests {
  const question = ({ question, choices, answer }: ChoiceItem) => [question, choices, answer];
  const digests: DataDigests = {};
  if (text !== null) digests.perplexity = digest(text);
  if (exact !== null) digests.exact = digest(exact.map(({ prompt, answer, stops }) => [prompt, answer, stops]));
  if (choices !== null) digests.choices = digest([choices.items.map(question), choices.shots.map(question)]);
  return digests;
}

export function digest(value: unknown): string {
  return createHash('sha256').update(JSON.stringify(value)).digest('hex').slice(0, 16);
}

/** @throws ERR_IO, ERR_INVALID_ARGUMENT with file and line */
export async function prepareTasks(flags: EvalFlags): Promise<Tasks> {
  const { perplexity, exact, choices } = flags;
  return {
    text: perplexity === undefined ? null : await readText(resolveData(perplexity)),
    exact: exact === undefined ? null : subsetOf(await readExactItems(resolveData(exact)), flags),
    choices: choices === undefined ? null : await choiceTask(resolveData(choices), flags),
  };
}

async function choiceTask(file: string, flags: EvalFlags): Promise<Tasks['choices']> {
  const items = await readChoiceItems(file);
  const { shots = 0, shotsFile } = flags;
  const examples = shotsFile === undefined ? items : await readChoiceItems(resolveData(shotsFile));
  const available = shotsFile === undefined ? items.length - 1 : examples.length;
  if (shots > available) {
    throw new SwiftKVError(
      'ERR_INVALID_ARGUMENT',
      `Expected at most ${available} for --shots, the items of ${shotsFile ?? file} beside the question, but received ${shots}`,
    );
  }
  // One more than asked for: an item is no example of itself.
  return { items: subsetOf(items, flags), shots: shots === 0 ? [] : examples.slice(0, shots + 1) };
}

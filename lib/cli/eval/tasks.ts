// The files of an evaluation, read and checked before any model is loaded.

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

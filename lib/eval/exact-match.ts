// Exact match: whether greedy decoding gives exactly an item's answer and then stops.

import type { Engine } from '../engine/engine.ts';
import { inOrder } from './in-order.ts';
import { atItem, readJsonLines, type Sourced, stringField, wrongItem } from './json-lines.ts';
import { defaultInFlight, type EvalRun } from './perplexity.ts';
import { proportion } from './statistics.ts';

export interface ExactItem extends Sourced {
  prompt: string;
  answer: string;
  /** Texts that end the answer, besides the model's own end: the item's `stop`, and a new line if the answer has none. */
  stops: readonly string[];
  /** Every field of the line, to group by. */
  fields: Readonly<Record<string, unknown>>;
}

export interface ExactResult {
  item: ExactItem;
  right: boolean;
  /** What the model said, without white space around it. */
  text: string;
  promptTokens: number;
}

export type Share = ReturnType<typeof proportion>;

export interface ExactMatch extends Share {
  groups: ({ group: string } & Share)[];
}

/** JSONL of { prompt, answer, stop? } and whatever else. @throws ERR_IO, ERR_INVALID_ARGUMENT with file and line */
export function readExactItems(file: string): Promise<ExactItem[]> {
  return readJsonLines(file, (fields, source) => {
    const { where } = source;
    const { stop } = fields;
    if (stop !== undefined && (typeof stop !== 'string' || stop === '')) {
      throw wrongItem(where, 'a non-empty string stop', stop);
    }
    const answer = stringField(fields, 'answer', where).trim();
    const stops = new Set([...(stop === undefined ? [] : [stop]), ...(answer.includes('\n') ? [] : ['\n'])]);
    return { prompt: stringField(fields, 'prompt', where), answer, stops: [...stops], fields, ...source };
  });
}

/** Tokens beyond those of the answer that a model may use, to write it in another way and to stop. */
const slackTokens = 4;

/**
 * Answers items greedily, and yields the results in order. An answer counts when its text up to the stop is the item's,
 * white space around both ignored, and it did stop.
 * @throws as engine.generate, with file and line
 */
export function answerItems(
  engine: Engine,
  items: readonly ExactItem[],
  { inFlight = defaultInFlight, signal }: EvalRun = {},
): AsyncGenerator<ExactResult> {
  const answer = async (item: ExactItem, stop: AbortSignal): Promise<ExactResult> => {
    try {
      const expected = await engine.tokenize(` ${item.answer}`, { addSpecialTokens: false });
      const { text, finishReason, usage } = await engine
        .generate({
          prompt: item.prompt,
          maxTokens: expected.length + slackTokens,
          stop: item.stops,
          temperature: 0,
          signal: stop,
        })
        .result();
      const said = text.trim();
      const right = said === item.answer && finishReason === 'stop';
      return { item, right, text: said, promptTokens: usage.promptTokens };
    } catch (error) {
      throw atItem(error, item);
    }
  };
  return inOrder(items, inFlight, answer, signal);
}

/**
 * The share of right answers, in all and by group.
 * @param by field of the items to group by; items without it are grouped by their prompt's tokens, in powers of two
 */
export function exactMatchOf(results: readonly ExactResult[], by = 'length'): ExactMatch {
  const groups = new Map<string, ExactResult[]>();
  for (const result of results) {
    const group = groupOf(result, by);
    const members = groups.get(group);
    if (members === undefined) groups.set(group, [result]);
    else members.push(result);
  }
  const share = (part: readonly ExactResult[]) => proportion(part.filter(({ right }) => right).length, part.length);
  return {
    ...share(results),
    groups: [...groups].sort(byNumberThenName).map(([group, part]) => ({ group, ...share(part) })),
  };
}

/** What a result is grouped by: a field of its item, or else its prompt's tokens. */
export function groupOf({ item, promptTokens }: ExactResult, by: string): string {
  const value = item.fields[by];
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') return String(value);
  return `<= ${2 ** Math.ceil(Math.log2(Math.max(promptTokens, 64)))}`;
}

function byNumberThenName([a]: [string, unknown], [b]: [string, unknown]): number {
  return a.localeCompare(b, 'en', { numeric: true });
}

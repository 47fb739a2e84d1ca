// What counts as an exact answer, judged on an engine that says what it is told to.

import { describe, expect, it } from 'vitest';
import type { Engine } from '../../lib/engine/engine.ts';
import { answerItems, type ExactItem, exactMatchOf, readExactItems } from '../../lib/eval/exact-match.ts';
import { gather } from '../../lib/eval/in-order.ts';
import { withFile } from './temp-file.ts';

/** Would say `text`, and ends by itself, at a stop string, or because it may say no more. */
function sayingEngine(text: string, finishReason: 'stop' | 'length'): Engine {
  return {
    tokenize: async (words: string) => Array.from({ length: words.length }, () => 7),
    generate: ({ prompt, stop }: { prompt: string; stop: string[] }) => {
      const ends = stop.map((end) => text.indexOf(end)).filter((at) => at >= 0);
      const said = text.slice(0, Math.min(text.length, ...ends));
      const reason = ends.length > 0 ? 'stop' : finishReason;
      return { result: async () => ({ text: said, finishReason: reason, usage: { promptTokens: prompt.length } }) };
    },
  } as unknown as Engine;
}

const item = (answer: string, stops = ['\n'], fields = {}): ExactItem => ({
  prompt: 'x'.repeat(100),
  answer,
  stops,
  fields,
  where: 'items:1',
  id: '1',
});

describe('an exact answer', () => {
  const cases: [string, string, 'stop' | 'length', ExactItem, boolean][] = [
    ['ends with a new line', ' 4821\nQuestion', 'length', item('4821'), true],
    ['ends because the model stops', ' 4821', 'stop', item('4821'), true],
    ['ends with the stop of its item', ' 4821;more', 'length', item('4821', [';', '\n']), true],
    ['ends at the first of two stops', ' 4821\nmore;', 'length', item('4821', [';', '\n']), true],
    ['that goes on is wrong', ' 48210\n', 'length', item('4821'), false],
    ['that never ends is wrong', ' 4821', 'length', item('4821'), false],
    ['that comes after a new line is wrong', '\n4821\n', 'length', item('4821'), false],
    ['of two lines may have a new line', ' a\nb', 'stop', item('a\nb', []), true],
    ['in other letters is wrong', ' mara\n', 'length', item('Mara'), false],
  ];
  it.each(cases)('%s', async (_, said, finishReason, asked, right) => {
    const [result] = await gather(answerItems(sayingEngine(said, finishReason), [asked]));
    expect(result!.right).toBe(right);
  });
});

it('results are grouped by a field, in order of numbers, or by the tokens of the prompt', () => {
  const result = (length: number | undefined, right: boolean, promptTokens: number) => ({
    item: item('x', [], length === undefined ? {} : { length }),
    right,
    text: '',
    promptTokens,
  });
  const { yes, items, groups } = exactMatchOf([
    result(1000, true, 990),
    result(150, true, 160),
    result(150, false, 140),
    result(undefined, true, 513),
    result(undefined, true, 3),
  ]);
  expect([yes, items]).toEqual([4, 5]);
  expect(groups.map(({ group, yes, items }) => [group, yes, items])).toEqual([
    ['<= 64', 1, 1],
    ['<= 1024', 1, 1],
    ['150', 1, 2],
    ['1000', 1, 1],
  ]);
});

describe('a file of items', () => {
  it('has one a line, and a new line ends an answer that has none', async () => {
    const text = '{"prompt":"p","answer":" a "}\n\n{"prompt":"p","answer":"a\\nb","stop":";","length":3}\n';
    const items = await withFile(text, readExactItems);
    expect(items.map(({ answer, stops, fields }) => [answer, stops, fields['length']])).toEqual([
      ['a', ['\n'], undefined],
      ['a\nb', [';'], 3],
    ]);
  });

  const wrong: [string, string, RegExp][] = [
    ['broken JSON', '{"prompt":"p","answer":"a"}\n{"prompt"', /:2: not JSON/],
    ['a line that is no object', '[1]', /:1: expected a JSON object but received \[1\]/],
    ['an item without an answer', '\n\n{"prompt":"p"}', /:3: expected a non-empty string answer but received nothing/],
    ['an empty stop', '{"prompt":"p","answer":"a","stop":""}', /:1: expected a non-empty string stop/],
    ['no items', '\n', /has no items/],
  ];
  it.each(wrong)('with %s is refused by line', async (_, text, message) => {
    await expect(withFile(text, readExactItems)).rejects.toThrow(message);
  });

  it('an item that fails names its line', async () => {
    const engine = { tokenize: async () => [1], generate: () => ({ result: () => Promise.reject(error) }) };
    const { SwiftKVError } = await import('../../lib/errors.ts');
    const error = new SwiftKVError('ERR_CONTEXT_LENGTH', 'Expected at most 8 tokens');
    await expect(gather(answerItems(engine as unknown as Engine, [item('x')]))).rejects.toMatchObject({
      code: 'ERR_CONTEXT_LENGTH',
      message: 'items:1: Expected at most 8 tokens',
    });
  });
});

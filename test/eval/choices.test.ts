// Multiple choice: prompts, log-likelihoods against sums made by hand, and the three ways to pick.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Engine } from '../../lib/engine/engine.ts';
import {
  type ChoiceItem,
  choicesOf,
  chooseItems,
  contextOf,
  picksOf,
  readChoiceItems,
} from '../../lib/eval/choices.ts';
import { gather } from '../../lib/eval/in-order.ts';
import { resolveModel } from '../../lib/model/embedded.ts';
import { withFile } from './temp-file.ts';

const items: ChoiceItem[] = ['red', 'blue', 'green'].map((color, i) => ({
  question: `The door is ${color}. What is the color of the door?`,
  choices: ['red', 'blue', 'green'],
  answer: i,
  where: `quiz:${i + 1}`,
  id: `line ${i + 1}`,
}));

describe('the prompt of an item', () => {
  it('has the questions and answers of others before it, and never its own', () => {
    expect(contextOf(items[1]!, { shots: items, numShots: 2 })).toBe(
      'Question: The door is red. What is the color of the door?\nAnswer: red\n\n' +
        'Question: The door is green. What is the color of the door?\nAnswer: green\n\n' +
        'Question: The door is blue. What is the color of the door?\nAnswer:',
    );
    expect(contextOf(items[0]!, { format: 'plain' })).toBe(items[0]!.question);
  });
});

it('a pick is the most likely choice: as it is, a token, and a byte', () => {
  const scores = [
    { logLikelihood: -4, tokens: 1 },
    { logLikelihood: -5, tokens: 2 },
    { logLikelihood: -9, tokens: 2 },
  ];
  expect(picksOf(['a', 'bé', 'ten bytes.'], scores)).toEqual({ plain: 0, perToken: 1, perByte: 2 });
  expect(picksOf(['a', 'b'], [scores[0]!, scores[0]!])).toEqual({ plain: 0, perToken: 0, perByte: 0 });
});

describe('items', () => {
  let engine: Engine;
  beforeAll(async () => {
    engine = await Engine.load(resolveModel('embedded:base'));
  });
  afterAll(() => engine.dispose());

  it('are scored as their definition says, whatever is in flight', async () => {
    const results = await gather(chooseItems(engine, items, { inFlight: 12 }));
    expect(results.map(({ item }) => item.answer)).toEqual([0, 1, 2]);
    expect(await gather(chooseItems(engine, items, { inFlight: 1 }))).toEqual(results);
    const context = await engine.tokenize(`Question: ${items[0]!.question}\nAnswer:`);
    for (const [i, choice] of items[0]!.choices.entries()) {
      const rest = await engine.tokenize(` ${choice}`, { addSpecialTokens: false });
      const { data, vocabSize } = await engine.logits([...context, ...rest]);
      const expected = rest.reduce((total, id, j) => {
        const at = context.length - 1 + j;
        const row = Array.from(data.subarray(at * vocabSize, (at + 1) * vocabSize));
        const most = Math.max(...row);
        return total + row[id]! - most - Math.log(row.reduce((sum, x) => sum + Math.exp(x - most), 0));
      }, 0);
      expect(results[0]!.scores[i]!.tokens).toBe(rest.length);
      expect(results[0]!.scores[i]!.logLikelihood).toBeCloseTo(expected, 4);
    }
    expect(choicesOf(results).plain.items).toBe(3);
  });
});

describe('a file of items', () => {
  it('names the answer by index or by text', async () => {
    const text = '{"question":"q","choices":["a","b"],"answer":1}\n{"question":"q","choices":["a","b"],"answer":"a"}';
    expect((await withFile(text, readChoiceItems)).map(({ answer }) => answer)).toEqual([1, 0]);
  });

  const wrong: [string, string, RegExp][] = [
    ['one choice', '{"question":"q","choices":["a"],"answer":0}', /:1: expected choices to be two or more/],
    ['an answer beyond', '{"question":"q","choices":["a","b"],"answer":2}', /:1: expected answer to be 0 to 1 .* 2$/],
    ['an answer that is no choice', '{"question":"q","choices":["a","b"],"answer":"c"}', /:1: expected answer/],
    ['no question', '{"choices":["a","b"],"answer":0}', /:1: expected a non-empty string question/],
  ];
  it.each(wrong)('with %s is refused by line', async (_, text, message) => {
    await expect(withFile(text, readChoiceItems)).rejects.toThrow(message);
  });
});

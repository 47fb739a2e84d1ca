// Tokens of training documents: the ids that a prompt of the same text has, and on the right ones the mark of an answer.

import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { embeddedModels, resolveData, resolveModel } from '../../../lib/model/embedded.ts';
import { loadTokenizer } from '../../../lib/tokenizer/load.ts';
import type { ChatMessage, Tokenizer } from '../../../lib/tokenizer/tokenizer.ts';
import type { Segment } from '../../../lib/train/data/read-documents.ts';
import { DocumentEncoder } from '../../../lib/train/data/tokenize.ts';

const tokenizer = (await loadTokenizer([resolveModel(`embedded:${embeddedModels[0]}`)]))!;
const options = { endId: 1, vocabSize: 4096 };
const encoder = await DocumentEncoder.create(tokenizer, options);
const segment = (text: string): Segment => ({ text, answer: false });
const answer = (text: string): Segment => ({ text, answer: true });

const encode = (segments: readonly Segment[], end: 'text' | 'answer' = 'text', by = encoder) =>
  by.encode({ where: 'here', segments, messages: null, end });

/** The text of the marked tokens, runs parted by |. */
async function marked(segments: readonly Segment[], end: 'text' | 'answer' = 'text', by = encoder): Promise<string> {
  const { ids, answers } = await encode(segments, end, by);
  return textOf(ids, answers);
}

function textOf(ids: Int32Array, answers: Uint8Array): string {
  const runs: number[][] = [];
  ids.forEach((id, i) => {
    if (answers[i] === 0) return;
    if (i > 0 && answers[i - 1] === 1) runs.at(-1)!.push(id);
    else runs.push([id]);
  });
  return runs.map((run) => tokenizer.decode(run, { skipSpecialTokens: false })).join('|');
}

/** As a tokenizer whose ids are not bytes: only prefixes of the text can tell. */
const wordwise: Tokenizer = { ...tokenizer, byteLength: () => null };
const byPrefixes = await DocumentEncoder.create(wordwise, options);

describe('a document', () => {
  it('has the ids of its text, between the beginning and the end of a text', async () => {
    const text = 'The code for Mara is 4821.';
    const { ids, answers } = await encode([segment(text)]);
    expect(ids).toEqual(Int32Array.from([...(await tokenizer.encode(text)), 1]));
    expect(ids[0]).toBe(0);
    expect(answers).toEqual(new Uint8Array(ids.length));
    // A text that spells them out gets no second ones.
    expect((await encode([segment(`<|begin_of_text|>${text}<|end_of_text|>`)])).ids).toEqual(ids);
  });

  it('without an end id has no end, and ids of another model are refused', async () => {
    const endless = await DocumentEncoder.create(tokenizer, { ...options, endId: null });
    expect((await encode([segment('Mara')], 'text', endless)).ids).toEqual(await tokenizer.encode('Mara'));
    const small = await DocumentEncoder.create(tokenizer, { ...options, vocabSize: 40 });
    await expect(encode([segment('Mara')], 'text', small)).rejects.toThrow(/here: the tokenizer gives the id \d+/);
  });

  it.each([
    ['bytes', encoder],
    ['prefixes', byPrefixes],
  ] as const)('marks answers by %s', async (_, by) => {
    const asked = [
      segment('Code 4821.\n'),
      segment('\nQuestion: code?\nAnswer:'),
      answer(' 4821\n'),
      segment('\nMore'),
    ];
    expect(await marked(asked, 'text', by)).toBe(' 4821\n');
    expect(await marked([segment('Name:'), answer(' Zoë 😀'), segment('\n'), answer('b')], 'text', by)).toBe(
      ' Zoë 😀|b',
    );
    expect(await marked([answer('first'), segment(''), answer(' second'), segment(' third')], 'text', by)).toBe(
      'first second',
    );
    // What ends the answer of a prompt is learned, what ends a text is not.
    expect(await marked([segment('2+2='), answer(' 4')], 'answer', by)).toBe(' 4<|end_of_text|>');
    expect(await marked([segment('2+2='), answer(' 4')], 'text', by)).toBe(' 4');
  });

  it('is encoded whole, so a token that crosses into an answer belongs to where it begins', async () => {
    const whole = await tokenizer.encode('The house');
    expect(whole).toHaveLength(3);
    for (const by of [encoder, byPrefixes]) {
      const { ids, answers } = await encode([segment('The ho'), answer('use')], 'text', by);
      expect(ids.subarray(0, 3)).toEqual(whole);
      expect([...answers]).toEqual([0, 0, 0, 0]);
    }
  });

  it('marks the same by bytes and by prefixes on real items', async () => {
    const lines = (await readFile(resolveData('embedded:recall'), 'utf8')).split('\n').slice(0, 40);
    for (const line of lines) {
      const item = JSON.parse(line) as { prompt: string; answer: string; stop: string };
      const segments = [segment(item.prompt), answer(` ${item.answer}${item.stop}`)];
      const encoded = await encode(segments);
      expect(encoded).toEqual(await encode(segments, 'text', byPrefixes));
      expect(textOf(encoded.ids, encoded.answers)).toBe(` ${item.answer}${item.stop}`);
    }
  });
});

describe('a conversation', () => {
  const chat = (messages: ChatMessage[], by = encoder) =>
    by.encode({ where: 'here', segments: [], messages, end: 'answer' });
  const messages = [
    { role: 'system', content: 'The code for Mara is 4821.' },
    { role: 'user', content: 'What is it?' },
    { role: 'assistant', content: '4821' },
    { role: 'user', content: 'Sure?' },
    { role: 'assistant', content: 'Yes' },
  ];

  it('is rendered by the template, and its answers are what the assistant writes, its end included', async () => {
    const { ids, answers } = await chat(messages);
    expect(textOf(ids, answers)).toBe(' 4821<|end|>| Yes<|end|>');
    const text = tokenizer.decode([...ids], { skipSpecialTokens: false });
    expect(text).toBe(
      '<|begin_of_text|><|system|>\nThe code for Mara is 4821.<|end|>\n<|user|>\nWhat is it?<|end|>\n' +
        '<|assistant|> 4821<|end|>\n<|user|>\nSure?<|end|>\n<|assistant|> Yes<|end|>\n<|end_of_text|>',
    );
  });

  it('whose template rewrites earlier turns is refused with the mend', async () => {
    const renderChat: Tokenizer['renderChat'] = async (all) => `${all.length} messages ${all.map((m) => m.content)}`;
    const rewriting = await DocumentEncoder.create({ ...tokenizer, renderChat }, options);
    await expect(chat(messages, rewriting)).rejects.toMatchObject({
      code: 'ERR_CHAT_TEMPLATE',
      message: expect.stringMatching(/here: .*message 2 differently.*segments/),
    });
  });
});

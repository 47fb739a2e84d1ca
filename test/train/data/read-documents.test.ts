// Training files: every form of a document, and every way in which a line can be wrong, named with its place.

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readDocuments } from '../../../lib/train/data/read-documents.ts';
import { temporaryFolder } from '../../reference/temp-dir.ts';

const folder = await temporaryFolder();
let made = 0;

async function fileOf(contents: string | Uint8Array, extension = '.jsonl'): Promise<string> {
  const file = join(folder, `data-${++made}${extension}`);
  await writeFile(file, contents);
  return file;
}

describe('a text file', () => {
  it('is parted into documents by a line of its own', async () => {
    const file = await fileOf(
      '\ufeffone\r\ntwo\n<|end_of_text|>\n\n<|end_of_text|>\n  three <|end_of_text|> still\n',
      '.txt',
    );
    const { documents } = await readDocuments(file);
    expect(documents.map(({ segments, where }) => [segments[0]!.text, where])).toEqual([
      ['one\ntwo', `${file}:1`],
      ['three <|end_of_text|> still', `${file}:6`],
    ]);
  });
});

describe('a JSONL file', () => {
  it('has texts, prompts with answers, conversations and segments', async () => {
    const messages = [
      { role: 'user', content: 'hi' },
      { role: 'assistant', content: 'hello', extra: 1 },
    ];
    const lines = [
      { kind: 'prose', text: 'a\u2028b' },
      { prompt: 'q', answer: ' a', stop: '\n' },
      { messages },
      { segments: [{ text: 'x', target: false }, { text: 'y', target: true }, { text: 'z' }] },
      {
        segments: [
          ['x', false],
          ['y', true],
        ],
      },
      { segments: [{ text: 'y', answer: true }] },
    ];
    const { documents, sha256 } = await readDocuments(
      await fileOf(`${lines.map((l) => JSON.stringify(l)).join('\n\n')}\n`),
    );
    expect(documents.map((d) => d.segments.map(({ text, answer }) => (answer ? `[${text}]` : text)).join('|'))).toEqual(
      ['a\u2028b', 'q|[ a\n]', '', 'x|[y]|z', 'x|[y]', '[y]'],
    );
    expect(documents[2]!.messages).toEqual(messages);
    expect(documents[3]!.where).toMatch(/:7$/);
    expect(sha256).toMatch(/^[0-9a-f]{64}$/);
  });

  it.each([
    ['{"text": "a"', /not JSON .*mend or remove the line/],
    ['[1]', /expected one of .* but received \[1\]/],
    ['{"texts": "a"}', /none of these fields/],
    ['{"text": "a", "prompt": "b"}', /has text and prompt/],
    ['{"text": ""}', /a text that is not empty for text but received ""/],
    ['{"text": 7}', /for text but received 7/],
    ['{"prompt": "a"}', /for answer but received/],
    ['{"prompt": "a", "answer": "b", "stop": 3}', /for stop but received 3/],
    ['{"messages": "a"}', /list of \{"role", "content"\}.*received "a"/],
    ['{"messages": [{"role": "user"}]}', /received \{"role":"user"\}/],
    ['{"messages": [{"role": "user", "content": "x"}]}', /at least one message with the role "assistant"/],
    ['{"segments": []}', /segments to be a list of .* received \[\]/],
    ['{"segments": [["a"], "b"]}', /received "b"/],
    ['{"segments": [{"text": "a", "answer": 1}]}', /received \{"text":"a","answer":1\}/],
    ['{"segments": [{"text": "a"}]}', /at least one segment to be an answer/],
  ])('with the line %s is refused', async (line, message) => {
    const file = await fileOf(`{"text": "fine"}\n${line}\n`);
    await expect(readDocuments(file)).rejects.toMatchObject({
      code: 'ERR_INVALID_ARGUMENT',
      message: expect.stringMatching(message),
    });
    await expect(readDocuments(file)).rejects.toThrow(`${file}:2: `);
  });

  it('that is no UTF-8, has nothing, does not exist or is of another kind is refused', async () => {
    const bytes = Uint8Array.from([...Buffer.from('{"text": "fine"}\n'), 0x22, 0xff, 0x22]);
    await expect(readDocuments(await fileOf(bytes))).rejects.toThrow(/:2: not UTF-8; save the file in UTF-8/);
    await expect(readDocuments(await fileOf('\n'))).rejects.toThrow(/has no documents/);
    await expect(readDocuments(join(folder, 'none.jsonl'))).rejects.toMatchObject({ code: 'ERR_IO' });
    await expect(readDocuments(await fileOf('x', '.csv'))).rejects.toThrow(/expected a .txt or .jsonl file/);
  });
});

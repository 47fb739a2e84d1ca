// Files to batches, and the cache of their tokens.

import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { resolveModel } from '../../../lib/model/embedded.ts';
import { loadTokenizer } from '../../../lib/tokenizer/load.ts';
import { openData, parseDataFile } from '../../../lib/train/data/index.ts';
import { temporaryFolder } from '../../reference/temp-dir.ts';

const folder = await temporaryFolder();
const tokenizerDir = resolveModel('embedded:base');
const tokenizer = (await loadTokenizer([tokenizerDir]))!;
const config = { vocabSize: 4096, eosTokenIds: [1, 6] };
const options = { tokensPerBatch: 128, maxSeqs: 8, maxLength: 64, seed: 3 };

const texts = join(folder, 'texts.txt');
await writeFile(texts, 'Call me Ishmael.\n<|end_of_text|>\nSome years ago, never mind how long precisely.\n');
const items = join(folder, 'items.jsonl');
await writeFile(items, `${JSON.stringify({ prompt: 'The code is 4821.\nAnswer:', answer: ' 4821', stop: '\n' })}\n`);
const files = [{ path: texts, weight: 1 }, parseDataFile(`${items}=3`)];

describe('training data', () => {
  it('says what it is, and goes on from a state', async () => {
    const { stream, files: report } = await openData(files, tokenizer, config, options);
    expect(
      report.map(({ path, documents, tokens, answerTokens }) => [path, documents, tokens > 10, answerTokens]),
    ).toEqual([
      [texts, 2, true, 0],
      // A space, four digits one by one, a new line, the end.
      [items, 1, true, report[1]!.answerTokens],
    ]);
    expect(report[1]!.answerTokens).toBeGreaterThan(4);
    stream.next();
    const state = JSON.parse(JSON.stringify(stream.state()));
    const again = await openData(files, tokenizer, config, options, state);
    expect(again.stream.next()).toEqual(stream.next());
    await expect(openData(files, tokenizer, config, { ...options, endId: null }, state)).rejects.toThrow(
      /not those of the run/,
    );
  });

  it('ends documents with the lowest end id of the model', async () => {
    const { stream } = await openData([{ path: texts }], tokenizer, config, options);
    const { ids, starts } = stream.next();
    for (const end of starts.subarray(1)) expect(ids[end - 1]).toBe(1);
  });
});

describe('the cache', () => {
  it('gives the same batches without tokenizing, is made anew when damaged, and belongs to its file', async () => {
    const cache = { dir: join(folder, 'cache'), tokenizerDir };
    const encode = vi.fn(tokenizer.encode);
    const load = async () => {
      encode.mockClear();
      const { stream, files: report } = await openData(files, { ...tokenizer, encode }, config, { ...options, cache });
      return { batch: stream.next(), report, calls: encode.mock.calls.length };
    };
    const first = await load();
    expect(first.calls).toBeGreaterThan(0);
    expect(await readdir(cache.dir)).toHaveLength(2);
    const second = await load();
    expect(second).toEqual({ ...first, calls: 0 });
    for (const name of await readdir(cache.dir)) {
      const path = join(cache.dir, name);
      await writeFile(path, (await readFile(path)).subarray(0, 100));
    }
    expect(await load()).toEqual(first);
    await writeFile(texts, 'Another text.\n');
    const changed = await load();
    expect(changed.calls).toBeGreaterThan(0);
    expect(changed.report[0]!.sha256).not.toBe(first.report[0]!.sha256);
  });

  it('that cannot be written does not stop the run', async () => {
    const cache = { dir: join(texts, 'no-folder'), tokenizerDir };
    await expect(openData(files, tokenizer, config, { ...options, cache })).resolves.toBeDefined();
  });
});

describe('a file of the command line', () => {
  it.each([
    ['a.txt', { path: 'a.txt' }],
    ['a.txt=0.4', { path: 'a.txt', weight: 0.4 }],
    ['dir=x/a.txt', { path: 'dir=x/a.txt' }],
    ['a=b.txt=2', { path: 'a=b.txt', weight: 2 }],
  ])('%s', (text, expected) => {
    expect(parseDataFile(text)).toEqual(expected);
  });

  it.each(['a.txt=', 'a.txt=0', 'a.txt=-1', 'a.txt=much'])('%s is refused', (text) => {
    expect(() => parseDataFile(text)).toThrow(/FILE or FILE=WEIGHT/);
  });
});

// No evaluation fact and no held-out document is in training data: neither in the files of this repository, nor in those
// that SWIFTKV_TRAINING_DATA names (a list with commas), nor in what the generator of recall documents can make.

import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { resolveData } from '../../../lib/model/embedded.ts';
import { documentSeparator, readDocuments } from '../../../lib/train/data/read-documents.ts';
import { factsOf, leakedDocuments, leakedFacts } from './overlap.ts';

const models = fileURLToPath(new URL('../../../models/', import.meta.url));

interface RecallItem {
  id: string;
  prompt: string;
  answer: string;
}

const items = (await readFile(resolveData('embedded:recall'), 'utf8'))
  .split('\n')
  .filter((line) => line !== '')
  .map((line) => JSON.parse(line) as RecallItem);
const heldOut = (await readFile(resolveData('embedded:heldout'), 'utf8')).split(`\n${documentSeparator}\n`);
const facts = items.flatMap(factsOf);

async function textsOf(file: string): Promise<string[]> {
  const { documents } = await readDocuments(file);
  return documents.map(({ segments, messages }) =>
    messages === null ? segments.map(({ text }) => text).join('') : messages.map(({ content }) => content).join('\n'),
  );
}

const inRepository = (await readdir(models, { recursive: true }))
  .filter((name) => /(^|[/\\])train[/\\].*\.(jsonl|txt)$/.test(name))
  .map((name) => join(models, name));
const named = (process.env.SWIFTKV_TRAINING_DATA ?? '').split(',').filter((file) => file !== '');

describe('training data', () => {
  it.each([...inRepository, ...named])(
    '%s has no evaluation fact and no held-out document',
    async (file) => {
      const texts = await textsOf(file);
      expect(leakedFacts(texts, facts)).toEqual([]);
      expect(leakedDocuments(texts, heldOut)).toEqual([]);
    },
    600_000,
  );

  it('is made of other numbers than evaluation items ask for', () => {
    // The generator's rule: a value belongs to one split by a hash of its kind and itself.
    const splitOf = (kind: string, value: string) =>
      createHash('sha256').update(`${kind}\0${value}`).digest().readUInt32BE(0) % 10;
    const numbers = items.filter(({ answer }) => /^\d{2,5}$/.test(answer));
    expect(numbers.length).toBeGreaterThan(50);
    expect(numbers.filter(({ answer }) => splitOf('number', answer) !== 8).map(({ id }) => id)).toEqual([]);
  });
});

describe('the check', () => {
  it('finds a statement for nearly every item', () => {
    const without = items.filter((item) => factsOf(item).length === 0);
    expect(without.map(({ id }) => id).length).toBeLessThan(items.length / 50);
  });

  it('finds a fact in any surrounding, whole or as a line', () => {
    const planted = facts.filter((_, i) => i % 37 === 0);
    const texts = planted.map(({ text }) =>
      /[.!?]$/.test(text) ? `Call me Ishmael. ${text} And so on.` : `a table\n${text}\n`,
    );
    expect(new Set(leakedFacts(['nothing here', ...texts], facts).map(({ document }) => document))).toEqual(
      new Set(texts.map((_, i) => i + 1)),
    );
  });

  it('finds the held-out document in the prose of demonstrations, which is therefore nothing to train on', async () => {
    const found = leakedDocuments(await textsOf(join(models, 'prose.txt')), heldOut);
    expect(found.map(({ what }) => what)).toEqual([expect.stringMatching(/^held-out document \d+/)]);
  });

  it('finds a held-out document whole, cut, inside another, and reformatted', () => {
    const [a, b, c] = heldOut.filter((text) => text.length > 3000) as [string, string, string];
    const filler =
      'The whale sank into the depths of the sea while the crew looked on in silence and wonder at it all. ';
    const texts = [
      a,
      b.slice(0, 2500),
      filler.repeat(3) + c,
      a.replace(/\s+/g, '  ').toUpperCase(),
      filler.repeat(100),
    ];
    expect([...new Set(leakedDocuments(texts, heldOut).map(({ document }) => document))]).toEqual([0, 1, 2, 3]);
  });
});

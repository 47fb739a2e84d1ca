// docs/kernels.md and docs/training-ops.md: every op has a section with its operands and an example, and the examples
// print what the page says.

import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { opSpecs } from '../../lib/kernels/op-specs.ts';
import { trainOpSpecs } from '../../lib/kernels/train-op-specs.ts';
import { examplesOf, runExamples, typeErrors } from './examples.ts';

type Specs = Readonly<Record<string, { operands: object; attrs: object }>>;

const inferenceOpSpecs: Specs = Object.fromEntries(Object.entries(opSpecs).filter(([op]) => !(op in trainOpSpecs)));

describe.each([
  ['docs/kernels.md', inferenceOpSpecs],
  ['docs/training-ops.md', trainOpSpecs],
])('%s', async (file, specs) => {
  const page = await readFile(new URL(`../../${file}`, import.meta.url), 'utf8');
  const all = examplesOf(page);
  const setup = all.find(({ info }) => info === 'ts setup')!;
  const examples = all.filter((example) => example !== setup);
  const codes = Object.fromEntries(examples.map(({ line, code }) => [`line-${line}`, `${setup.code}\n${code}`]));

  /** Text of the section under a heading, up to the next one. */
  function section(heading: string): string {
    return page.split(`\n### ${heading}\n`)[1]?.split(/\n##+ /)[0] ?? '';
  }

  describe.each(Object.entries(specs))('the section of %s', (op, { operands, attrs }) => {
    const text = section(op);

    it('has an example that calls it', () => {
      const own = examples.filter(({ heading }) => heading === op);
      expect(own).toHaveLength(1);
      expect(own[0]!.code).toContain(`ops.${op}(`);
      expect(own[0]!.expected).not.toBeNull();
    });

    it('names its operands, no others, and its attributes', () => {
      if (text.includes('are those of [attention](#attention)')) return;
      const rows = text.split('\n').filter((line) => line.startsWith('| `'));
      const named = rows.flatMap((row) => [...row.split('|')[1]!.matchAll(/`(\w+)`/g)].map((match) => match[1]!));
      expect(named.toSorted()).toEqual(Object.keys(operands).toSorted());
      for (const attr of Object.keys(attrs)) expect(text).toContain(`\`${attr}\``);
    });
  });

  describe('the examples', () => {
    it('are typed', async () => {
      expect(await typeErrors(codes)).toEqual([]);
    });

    it('print what the page says', async () => {
      const printed = await runExamples(codes);
      const expected = Object.fromEntries(examples.map(({ line, expected }) => [`line-${line}`, expected]));
      expect(printed).toEqual(expected);
    });
  });
});

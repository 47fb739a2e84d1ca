// The TypeScript of the README does what it says, with a model in place of the reader's.

import { readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { resolveModel } from '../../lib/model/embedded.ts';
import { examplesOf, runExamples, typeErrors } from './examples.ts';

const page = await readFile(new URL('../../README.md', import.meta.url), 'utf8');
const folder = "'path/to/a/hugging-face/folder'";
const codes = Object.fromEntries(
  examplesOf(page).map(({ line, code }) => [
    `line-${line}`,
    code.replaceAll(folder, JSON.stringify(resolveModel('embedded:base'))),
  ]),
);

it('has typed examples that run', async () => {
  expect(page).toContain(folder);
  expect(Object.keys(codes).length).toBeGreaterThanOrEqual(2);
  expect(await typeErrors(codes)).toEqual([]);
  for (const [name, printed] of Object.entries(await runExamples(codes))) {
    expect(printed, name).not.toBe('');
    expect(printed, name).not.toMatch(/^threw|Error/m);
  }
});

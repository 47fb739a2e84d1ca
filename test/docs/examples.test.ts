// The TypeScript of the pages does what it says, with a model in place of the reader's.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { resolveModel } from '../../lib/model/embedded.ts';
import { temporaryFolder } from '../reference/temp-dir.ts';
import { examplesOf, runExamples, typeErrors } from './examples.ts';

const folder = "'path/to/a/hugging-face/folder'";
const written = "'path/to/the/student'";
const temporary = await temporaryFolder();

it.each([
  ['README.md', 2],
  ['docs/generate.md', 3],
  ['docs/scheduling.md', 1],
  ['docs/training.md', 1],
])('%s has typed examples that run', async (file, atLeast) => {
  const page = await readFile(new URL(`../../${file}`, import.meta.url), 'utf8');
  expect(page).toContain(folder);
  const codes = Object.fromEntries(
    examplesOf(page).map(({ line, code }) => [
      `line-${line}`,
      code
        .replaceAll(folder, JSON.stringify(resolveModel('embedded:base')))
        .replaceAll(written, JSON.stringify(join(temporary, `line-${line}`))),
    ]),
  );
  expect(Object.keys(codes).length).toBeGreaterThanOrEqual(atLeast);
  expect(await typeErrors(codes)).toEqual([]);
  for (const [name, printed] of Object.entries(await runExamples(codes))) {
    expect(printed, name).not.toBe('');
    expect(printed, name).not.toMatch(/^threw|Error/m);
  }
});

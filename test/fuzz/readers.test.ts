// A small share of the fuzzing of the readers; `npm run fuzz` runs all of it.

import { expect, it } from 'vitest';
import { temporaryFolder } from '../reference/temp-dir.ts';
import { describeFuzz, fuzzReaders } from './fuzz-readers.ts';

const folder = await temporaryFolder();

it('damaged files end in a coded error or a model that runs, and a good model still loads', async () => {
  const report = await fuzzReaders(folder, { inputs: 200, milliseconds: 15_000 });
  console.log(describeFuzz(report));
  expect(report.inputs).toBeGreaterThan(20);
  expect(report.codes['ERR_MODEL_INVALID']).toBeGreaterThan(0);
});
